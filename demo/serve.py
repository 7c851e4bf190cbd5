"""Leave the site running: its admin, with entries that are pending and entries that are settled."""

from __future__ import annotations

import secrets
import shlex
import signal
import sys

from django.contrib.auth import get_user_model
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import run
from django.core.wsgi import get_wsgi_application

from demo import show
from demo.files import pdf, picture
from demo.library.models import Document, Photo, Scan
from demo.site import Site
from pgcleanup import context, keep


def serve(site: Site) -> None:
    """Serve the site on a free port until ^C."""
    # A process that a shell started in the background has inherited an ignored ^C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave_some_pending(site)
    password = secrets.token_urlsafe(6)
    get_user_model().objects.create_superuser("demo", "demo@example.com", password)

    def announce(port: int) -> None:
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in site.environment.items())
        show.heading("The site is running")
        show.say(f"  address   http://127.0.0.1:{port}/admin/   (File deletions: what is pending, what was settled)")
        show.say("  login     demo")
        show.say(f"  password  {password}")
        show.say("  commands  ^C stops it and removes everything. Until then, for example:")
        show.say(f"  {variables} \\\n  {shlex.quote(sys.executable)} demo/manage.py drain_deletions --dry-run")

    try:
        run("127.0.0.1", 0, StaticFilesHandler(get_wsgi_application()), threading=True, on_bind=announce)
    except KeyboardInterrupt:
        show.say("\nStopped: the server, its database and the files are gone.")


def leave_some_pending(site: Site) -> None:
    """Let some names go that a drain sees but does not delete yet: in their grace period, and not seen at all."""
    with context(user="ada", request="/documents/manual/replace/"):
        document = Document.objects.get(slug="manual")
        document.file = pdf("manual-2.pdf", 3)
        document.save()
    Photo.objects.filter(title="gull").update(image="photos/lighthouse.jpg")
    with keep():
        Scan.objects.all()[0].delete()
    site.manage("drain_deletions", "-v", "0")
    Photo.objects.create(title="storm", image=picture("storm.jpg", 320, 240)).delete()
