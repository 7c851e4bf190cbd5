"""The site that the browser looks at: an admin with the ledger and with a model of a project's own."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.urls import path

from pgcleanup.admin import FileHistoryMixin, PendingAdmin, SettledAdmin
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from tests.project.models import Document


class DocumentAdmin(FileHistoryMixin, admin.ModelAdmin):
    """A project's own admin."""


site = admin.AdminSite()
site.register(PendingFileDeletion, PendingAdmin)
site.register(SettledFileDeletion, SettledAdmin)
site.register(Document, DocumentAdmin)
site.register([Group, User])

urlpatterns = [
    path("admin/", site.urls),
    # Browsers ask for it, and note a missing one as an error.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
]
