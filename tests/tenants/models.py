"""What all tenants share."""

from __future__ import annotations

from django.core.files.storage import FileSystemStorage
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


def shared_storage() -> FileSystemStorage:
    """Return the one storage that is no tenant's."""
    from django.conf import settings

    return FileSystemStorage(location=f"{settings.MEDIA_ROOT}/shared")


class Client(TenantMixin):
    """A tenant, with a file in the public schema."""

    logo = models.FileField(storage=shared_storage, blank=True)
    auto_create_schema = True
    auto_drop_schema = True


class Domain(DomainMixin):
    """Where a tenant is reached."""
