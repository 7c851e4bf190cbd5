from __future__ import annotations

from django.contrib import admin

from demo.library.models import Document, Folder, Goodbye, Invoice, Photo, Profile, Scan

admin.site.register([Document, Photo, Profile, Invoice, Folder, Scan, Goodbye])
