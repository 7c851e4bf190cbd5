"""Settings of that project. One database: of a schema for each tenant."""

from __future__ import annotations

from datetime import timedelta

from tests.project.settings import *  # noqa: F403
from tests.project.settings import DATABASES, MEDIA_ROOT

DATABASES = {"default": {**DATABASES["default"], "ENGINE": "django_tenants.postgresql_backend"}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = ["django_tenants", "tests.tenants", "django.contrib.contenttypes", "pgtrigger", "pgcleanup"]
TENANT_APPS = ["django.contrib.contenttypes", "pgcleanup", "tests.thirdparty"]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
TENANT_MODEL = "tenants.Client"
TENANT_DOMAIN_MODEL = "tenants.Domain"
ROOT_URLCONF = "tests.tenants.settings"
urlpatterns: list[object] = []
MIDDLEWARE: list[str] = []
TEMPLATES: list[object] = []
MEDIA_ROOT = str(MEDIA_ROOT)
STORAGES = {
    "default": {"BACKEND": "django_tenants.files.storage.TenantFileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
MULTITENANT_RELATIVE_MEDIA_ROOT = "%s"
PGCLEANUP_GRACE_PERIOD = timedelta(0)
PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
# pgtrigger and django-tenants both bring an autodetector, which Django's check commands.E001 refuses.
PGTRIGGER_MIGRATIONS = False
