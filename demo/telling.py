"""The story as it is told: changes, a drain that waits, a drain that deletes, and what is true afterwards."""

from __future__ import annotations

import platform
import time

import django

from demo import facts, show, story
from demo.site import Site


class Telling:
    """One run of the demo. The steps come in the order of the methods; `failed` tells how it went."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.failed = False
        self.broken: dict[str, list[str]] = {}
        self.began = time.monotonic()

    def begin(self) -> None:
        """Fill the site, and change its rows."""
        show.say(f"{self.site.server}, Django {django.__version__}, Python {platform.python_version()}")
        story.fill()
        files = story.summary(story.sizes(self.site).values())
        show.say(f"A site with {files}: documents, photos and their thumbnails, avatars, scans,")
        show.say("the attachments of an e-mail app, and invoices in a second storage. Its rows change in ten ways.")
        self.done = [facts.make(change, self.site) for change in story.CHANGES]
        self.before = story.sizes(self.site)
        self.behind = facts.look(self.site).oldest

    def wait(self) -> None:
        """Drain with the defaults: everything waits."""
        show.heading("At first nothing goes: by default a file waits for an hour")
        self._drain()
        gone = sorted(set(self.before) - set(story.sizes(self.site)))
        self._note({"never early": [f"{name} went before its time" for _, name in gone]})

    def delete(self) -> None:
        """Drain what is there."""
        show.heading("The same without the wait (for the demo: also PGCLEANUP_UPLOAD_WINDOW = 0, the files are new)")
        self._drain("--grace-period", "0", PGCLEANUP_DEMO_UPLOAD_WINDOW="0")

    def look(self) -> None:
        """Show what became of the files of each change."""
        show.heading("What became of the files, read back from the disk and the history")
        self._show(self.done, 1)

    def go_on(self) -> None:
        """Make two more changes, drain and look."""
        show.heading("Two more, then the drain once again: a file's last row, and a default that no row names now")
        later = [facts.make(change, self.site) for change in story.LATER]
        self._drain("--grace-period", "0", quiet=True, PGCLEANUP_DEMO_UPLOAD_WINDOW="0")
        # The file that the tenth change was about had to stay, and must go now.
        self.done[-1:] = later
        self._show(later, 1 + len(story.CHANGES))

    def end(self) -> None:
        """Show whether the promises held."""
        found = self.found
        deleted = sum(entry.outcome == "deleted" for entry in found.history.values())
        behind = self.behind.total_seconds() if self.behind is not None else 0
        holds = {
            "never early": f"{len(found.named)} files are named by a row, and all of them are there",
            "never lost": f"{deleted} files deleted, none left without a row, nothing pending",
            "at least once": f"{len(found.goodbyes)} signals for {deleted} deleted files",
            "one visible age": f"the oldest name was {behind:.1f} s old before the drains, and none is pending now",
        }
        show.heading("The promises")
        for name, sentence in holds.items():
            show.promise(name, self.broken[name], sentence)
        if self.failed:
            show.say("A promise is broken, or a drain failed: see above.", show.RED)
        else:
            show.say(f"All promises hold. ({time.monotonic() - self.began:.0f} s)", show.GREEN)

    def _drain(self, *options: str, quiet: bool = False, **environment: str) -> None:
        """Run the real command in a process of its own, and print what it says."""
        done = self.site.manage("drain_deletions", *options, **environment)
        if done.returncode or not quiet:
            show.command(" ".join(("manage.py drain_deletions", *options)), done.stdout)
        if done.returncode:
            show.say(f"    ended with {done.returncode}", show.RED)
            self.failed = True

    def _show(self, changes: list[facts.Done], first_number: int) -> None:
        """Read everything back, show these changes, and note what is broken now."""
        self.found = facts.look(self.site, before=self.before)
        for number, one in enumerate(changes, first_number):
            show.change(number, one, self.found)
        self._note(facts.broken(self.done, self.found))
        self._note({"one visible age": ["it was not known before the drain"] if self.behind is None else []})

    def _note(self, broken: dict[str, list[str]]) -> None:
        for name, sentences in broken.items():
            known = self.broken.setdefault(name, [])
            known += [sentence for sentence in sentences if sentence not in known]
            self.failed = self.failed or bool(known)


def tell(site: Site, *, spoil: bool = False) -> bool:
    """Tell the story, and return whether every promise held."""
    telling = Telling(site)
    telling.begin()
    telling.wait()
    telling.delete()
    if spoil:
        _spoil(site)
    telling.look()
    telling.go_on()
    telling.end()
    return not telling.failed


def _spoil(site: Site) -> None:
    """Break two promises on purpose: the demo must notice."""
    documents = site.files / "media" / "documents"
    (documents / "manual.pdf").unlink()
    (documents / "contract.pdf").write_bytes(b"%PDF")
