"""The story of a file name, in sentences: what is there, who names it, what waits, what has been, what to type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pgcleanup.management.output.base import Line
from pgcleanup.status.events import event_fields
from pgcleanup.status.story import Place, Story
from pgcleanup.status.telling import advice, command, sentences
from pgcleanup.status.words import listed, shown


def explained_lines(story: Story) -> list[Line]:
    """Return the text of a story."""
    return list(_lines(story))


def story_fields(story: Story) -> dict[str, Any]:
    """Return a story for machines."""
    return {
        **{name: getattr(story, name) for name in ("name", "database", "looked", "problems", "prepared", "deletes")},
        "unseen": [{"storage": storage, "problem": problem} for storage, problem in story.unseen],
        "unclean": story.unclean,
        "similar": story.similar,
        "places": [_place_fields(story, place) for place in story.places],
    }


def _lines(story: Story) -> Iterator[Line]:
    if not story.places:
        yield from _unknown(story)
        return
    for storage, problem in story.unseen:
        yield Line(f"Whether there is such a file in {storage}, too, is not known: {problem}.", problem=True)
    for place in story.places:
        yield Line(f"{shown(story.name, 300)}, in {place.storage}:")
        for sentence in sentences(story, place):
            yield Line(f"  {sentence}")
    stopped = any(place.pending for place in story.places)
    if not story.deletes and stopped:
        yield Line("PGCLEANUP_DELETE_FILES is False: no file is deleted.")
    for gid in story.prepared if stopped else ():
        yield Line(
            f"Prepared transaction {gid}: nothing is deleted before COMMIT PREPARED or ROLLBACK PREPARED.", problem=True
        )
    for problem in story.problems:
        yield Line(problem, problem=True)


def _unknown(story: Story) -> Iterator[Line]:
    yield Line(f'Nothing is known of {shown(story.name, 300)} in database "{story.database}":')
    yield Line("  no row names it, nothing is pending, and the history has nothing (any more).")
    if story.looked:
        yield Line(f"  Nor is it a file in {listed(list(story.looked))}.")
    if story.unclean:
        yield Line(f"  It cannot be the name of a file in a storage: {story.unclean}.")
    for storage, problem in story.unseen:
        yield Line(f"  Whether it is a file in {storage} is not known: {problem}.", problem=True)
    for name in story.similar:
        yield Line(f"Did you mean {shown(name)}? Run: {command(story, 'explain', name)}")
    if not story.similar:
        yield Line("A name is what the row holds: relative to its storage, for example documents/report.pdf.")
    for problem in story.problems:
        yield Line(problem, problem=True)


def _place_fields(story: Story, place: Place) -> dict[str, Any]:
    file = place.file
    return {
        "storage": place.storage,
        "sources": place.sources,
        "verdict": place.verdict,
        "file": {
            "presence": file.presence.value if file.presence is not None else None,
            "size": file.size,
            "age_seconds": file.age,
            "problem": file.problem,
        },
        "named": [asdict(named) for named in place.named],
        "unread": [asdict(unread) for unread in place.unread],
        "pending": [
            event_fields(entry.event)
            | {
                "waiting": entry.waiting,
                "seen_at": entry.seen_at,
                "due_at": entry.due_at,
                "retry_at": entry.retry_at,
                "holders": [held._asdict() for held in entry.holders],
            }
            for entry in place.pending
        ],
        "history": [event_fields(event) for event in place.history],
        "next": list(advice(story, place)),
    }
