"""The safety steps of a drain, how to switch each of them off, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutation.copies import Edit

ONE_STATEMENT = (
    'for kind, source, value in _rolled_back(using, f"{_ASKED}\\n" + "\\nUNION ALL\\n".join(branches), parameters):'
)
STORIES = "tests/drain/test_counterexamples.py::test_"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the drain does lest a file be lost, or be left for ever."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    slow: bool = False
    """Whether its test waits for something that does not come."""


def _step(name: str, path: str, old: str, new: str, *tests: str, slow: bool = False) -> Step:
    return Step(name, (Edit(f"pgcleanup/{path}", old, new),), tests, slow)


def _story(name: str) -> str:
    return STORIES + name


def _drain(name: str) -> str:
    return f"tests/drain/test_{name}"


STEPS = (
    # The fence
    _step(
        "fence",
        "ledger/claims.py",
        "s.stamped_at <= clock_timestamp() - %(grace)s AND NOT s.fence && o.vxids",
        "s.stamped_at <= clock_timestamp() - %(grace)s",
        _story("without_the_fence_a_file_goes_whose_name_an_open_transaction_has_read"),
    ),
    _step(
        "fence of transactions that only read",
        "ledger/fence.py",
        "WHERE l.locktype = 'virtualxid' AND l.pid IS DISTINCT FROM pg_backend_pid() AND (a.pid IS NULL",
        "WHERE l.locktype = 'transactionid' AND l.pid IS DISTINCT FROM pg_backend_pid() AND (a.pid IS NULL",
        _story("with_a_fence_of_transactions_that_have_written_a_file_goes_whose_name_one_has_only_read"),
    ),
    Step(
        "fence read after the entries",
        (
            Edit(
                "pgcleanup/ledger/fence.py",
                "SELECT ARRAY({OPEN_TRANSACTIONS}) WHERE EXISTS (SELECT FROM seen)",
                "SELECT %(early)s::text[] WHERE EXISTS (SELECT FROM seen)",
            ),
            Edit(
                "pgcleanup/ledger/fence.py",
                'return sql.execute(using, _STAMP, {"limit": STAMP_SIZE, **fence_parameters()})',
                "early = [row[0] for row in sql.fetch(using, OPEN_TRANSACTIONS, fence_parameters())]; "
                'return sql.execute(using, _STAMP, {"limit": STAMP_SIZE, "early": early, **fence_parameters()})',
            ),
        ),
        (_story("with_the_fence_read_before_the_entries_a_transaction_that_began_in_between_is_missed"),),
    ),
    _step(
        "fence of sessions that the statistics do not know",
        "ledger/fence.py",
        "AND (a.pid IS NULL OR (a.datname = current_database()",
        "AND (false OR (a.datname = current_database()",
        _story("without_sessions_that_the_statistics_do_not_know_one_that_began_in_mid_batch_holds_nothing"),
    ),
    _step(
        "stamps stay as long as their entries",
        "ledger/fence.py",
        "AND NOT EXISTS (SELECT FROM pending_file_deletion p WHERE p.stamp_id = s.id AND p.retry_at IS NOT NULL)",
        "",
        _drain("report.py::test_stamps_of_entries_that_wait_for_a_retry_or_failed_stay"),
    ),
    # The grace period
    _step(
        "grace period",
        "ledger/claims.py",
        "WHERE s.stamped_at <= clock_timestamp() - %(grace)s AND NOT s.fence && o.vxids",
        "WHERE NOT s.fence && o.vxids",
        _story("without_a_grace_period_a_file_goes_whose_name_is_carried_outside_a_transaction"),
    ),
    _step(
        "grace period counts from the stamp",
        "ledger/fence.py",
        "INSERT INTO file_deletion_stamp (fence) SELECT ARRAY({OPEN_TRANSACTIONS}) WHERE",
        "INSERT INTO file_deletion_stamp (stamped_at, fence) SELECT (SELECT min(recorded_at) FROM "
        "pending_file_deletion WHERE id IN (SELECT id FROM seen)), ARRAY({OPEN_TRANSACTIONS}) WHERE",
        _story("with_a_grace_period_that_counts_from_the_recording_a_late_commit_has_used_it_up"),
    ),
    _step(
        "grace period is the configured one where another database shares the storage",
        "drain/run.py",
        "max(grace, settings.grace_period) if elsewhere else grace",
        "grace",
        _drain(
            "elsewhere.py::test_grace_period_is_at_least_the_configured_one_where_another_database_shares_a_storage"
        ),
    ),
    # Prepared transactions
    _step(
        "prepared check",
        "drain/batch.py",
        "context.prepared = fence.prepared_names(context.using)",
        "context.prepared = []",
        _story("without_the_look_for_prepared_transactions_a_file_goes_whose_name_one_has_written"),
    ),
    Step(
        "prepared check after the fence",
        (
            Edit(
                "pgcleanup/drain/batch.py",
                "found = context.claim(self.storage_key, self.names)",
                "early = fence.prepared_names(context.using); found = context.claim(self.storage_key, self.names)",
            ),
            Edit(
                "pgcleanup/drain/batch.py",
                "context.prepared = fence.prepared_names(context.using)",
                "context.prepared = early",
            ),
        ),
        (_story("with_the_look_for_prepared_transactions_before_the_fence_one_that_is_prepared_in_between_is_missed"),),
    ),
    # Rows that no trigger records
    _step(
        "second fence",
        "drain/batch.py",
        "if fence.is_any_transaction_open(using):",
        "if False:",
        _drain("unrecorded.py::test_name_that_a_transaction_has_read_in_a_row_of_an_ignored_model_is_not_deleted"),
    ),
    _step(
        "second check",
        "drain/batch.py",
        "return answer if self.context.prepared else (yield from self._check(self.storage_key, found))",
        "return answer",
        _drain(
            "unrecorded.py::test_transaction_that_ends_between_the_check_and_the_look_at_open_ones_is_seen_by_the_second_check"
        ),
    ),
    _step(
        "second fence where a trigger is missing",
        "drain/surroundings.py",
        "if not column.recorded or relation.oid in broken:",
        "if not column.recorded:",
        _drain("unrecorded.py::test_name_that_a_transaction_has_read_where_the_trigger_is_missing_is_not_deleted"),
    ),
    _step(
        "second fence, of all entries of a name",
        "ledger/claims.py",
        "checked=all(claim.checked for claim in claims)",
        "checked=any(claim.checked for claim in claims)",
        _drain("unrecorded.py::test_name_that_is_let_go_again_and_seen_meanwhile_begins_anew"),
    ),
    # The reference check
    _step(
        "reference check",
        "drain/decide.py",
        "if claim.name in answer.references:",
        "if False:",
        _story("without_the_reference_check_a_file_goes_that_another_row_names"),
    ),
    _step(
        "one-statement check",
        "references/checking.py",
        ONE_STATEMENT,
        'for kind, source, value in [row for branch in sorted(branches, key=lambda one: "pending_file" in one) '
        'for row in _rolled_back(using, f"{_ASKED}\\n" + branch, parameters)]:',
        _story("with_a_check_of_many_statements_another_drain_settles_the_telltale_entry_in_between"),
    ),
    _step(
        "one-statement check, the ledger before the rows",
        "references/checking.py",
        ONE_STATEMENT,
        'for kind, source, value in [row for branch in sorted(branches, key=lambda one: "pending_file" not in one) '
        'for row in _rolled_back(using, f"{_ASKED}\\n" + branch, parameters)]:',
        _story("with_a_check_of_two_statements_a_name_passes_from_a_row_to_the_ledger_in_between"),
    ),
    _step(
        "names of a char(n) column without its blanks",
        "references/checking.py",
        "SELECT 'row', {source}, {compared}::text FROM {table}",
        "SELECT 'row', {source}, pg_catalog.concat({column}) FROM {table}",
        _drain("references.py::test_file_is_kept_while_a_column_that_pads_with_blanks_names_it"),
    ),
    _step(
        "names of a char(n) column with its blanks",
        "references/checking.py",
        "named = [_NAMED, _NAMED_PADDED] if place[-1] else [_NAMED]",
        "named = [_NAMED]",
        _drain("references.py::test_file_is_kept_while_a_column_that_pads_with_blanks_names_it"),
    ),
    _step(
        "READ COMMITTED",
        "sql.py",
        'execute(using, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")',
        "pass",
        _story("with_a_check_in_the_snapshot_of_the_claim_a_row_that_was_committed_since_is_missed"),
    ),
    _step(
        "ledger branch",
        "drain/decide.py",
        "if claim.name in answer.entries:",
        "if False:",
        _story("without_the_ledger_in_the_check_a_file_goes_whose_name_a_transaction_in_no_fence_carries"),
    ),
    _step(
        "ledger branch, entries that no drain has seen",
        "references/checking.py",
        "FROM pending_file_deletion WHERE stamp_id IS NULL ORDER BY id OFFSET 0) p",
        "FROM pending_file_deletion WHERE false ORDER BY id OFFSET 0) p",
        _story("without_the_ledger_in_the_check_a_file_goes_whose_name_a_transaction_in_no_fence_carries"),
    ),
    _step(
        "ledger branch, entries with a lower number",
        "references/checking.py",
        "AND p.id NOT IN (SELECT pg_catalog.unnest(%(claimed)s::bigint[])) AND p.source <> ALL",
        "AND p.id > (SELECT max(c.id) FROM pg_catalog.unnest(%(claimed)s::bigint[]) AS c(id)) AND p.source <> ALL",
        _story("with_only_higher_numbers_in_the_check_an_entry_that_was_committed_later_is_missed"),
    ),
    _step(
        "ledger branch, entries that are stamped",
        "references/checking.py",
        "p.name = a.name AND p.stamp_id IS NOT NULL OFFSET 0) p",
        "p.name = a.name AND false OFFSET 0) p",
        _drain("claims.py::test_name_with_an_entry_whose_fence_is_not_clear_is_left"),
    ),
    _step(
        "ledger branch, entries of a model that is gone",
        "references/checking.py",
        "OR (p.source <> ALL (%(other_storages)s) AND (s.id IS NULL",
        "OR (false AND (s.id IS NULL",
        _drain("refusals.py::test_entry_of_a_source_that_is_gone_holds_its_name_only_while_transactions_are_open"),
        _story("without_sessions_that_the_statistics_do_not_know_one_that_began_in_mid_batch_holds_nothing"),
    ),
    _step(
        "check of the project's other databases",
        "drain/elsewhere.py",
        "for alias, columns in self.columns.items():",
        "for alias, columns in ():",
        _drain("elsewhere.py::test_row_in_another_database_keeps_the_file"),
    ),
    _step(
        "rows that a policy hides are an error",
        "references/checking.py",
        "set_config('row_security', 'off', true)",
        "set_config('row_security', 'on', true)",
        _drain("transactions.py::test_rows_that_a_policy_hides_from_the_drains_role_are_an_error_and_not_a_lie"),
    ),
    _step(
        "no lock on a user's table while a storage is called",
        "references/checking.py",
        "rows = sql.fetch(using, statement, {**parameters, **fence_parameters()}) "
        "transaction.set_rollback(True, using=using)",
        "rows = sql.fetch(using, statement, {**parameters, **fence_parameters()})",
        _drain("transactions.py::test_users_table_is_free_while_a_storage_is_asked"),
    ),
    _step(
        "column table comparison",
        "drain/batch.py",
        "if not context.compare_columns or why is None:",
        "if True:",
        _drain("agreement.py::test_storage_is_left_alone_by_a_process_with"),
    ),
    _step(
        "column table comparison, columns that have moved",
        "drain/agreement.py",
        "disagreements(columns, answer.known, key, answer.moved)",
        "disagreements(columns, answer.known, key)",
        _drain("places.py::test_storage_is_left_alone_while_a_column_is_not_where_this_process_looks"),
    ),
    _step(
        "column table comparison, the project's other databases",
        "drain/elsewhere.py",
        "if differences := self._differences(alias, columns, key, found):",
        "if differences := []:",
        _drain("elsewhere.py::test_storage_is_left_alone_where_another_database_sees_other_columns"),
    ),
    _step(
        "column table comparison, columns that another database does not have yet",
        "references/checking.py",
        'answer.moved.setdefault(column.source, "missing")',
        "pass",
        _drain("elsewhere.py::test_storage_is_left_alone_where_another_database_sees_other_columns"),
    ),
    _step(
        "column table comparison, another database of whose tables none is known here",
        "references/places.py",
        "return bool(sql.fetch(using, _KNOWS, [list(keys)])[0][0])",
        "return False",
        _drain("elsewhere.py::test_database_all_of_whose_tables_were_renamed_is_asked"),
    ),
    _step(
        "storage of a dropped column whose label another one has by now",
        "triggers/retired.py",
        "_retire(using, ledger, taken)",
        "pass",
        "tests/database/test_record_dropped.py::TestLabelIsTaken",
    ),
    _step(
        "storage of a column that an earlier release dropped",
        "triggers/drops.py",
        "retire_at_once(using, ledger, column.source, column.storage_key)",
        "pass",
        "tests/database/test_record_dropped.py::TestLabelIsTaken",
    ),
    _step(
        "column table comparison, columns of a migration that has just committed",
        "triggers/drops.py",
        "note_new(self.connection.alias, field)",
        "pass",
        "tests/database/test_schema_changes.py::test_new_field_that_takes_the_name_of_a_dropped_one_is_noted",
    ),
    _step(
        "columns of another version of the code stay known",
        "triggers/__init__.py",
        "left = columns_of_another_version(using, catalog, columns, known, needed)",
        "left: list[coverage.KnownColumn] = []",
        "tests/database/test_versions.py::TestCodeIsAhead",
    ),
    _step(
        "entries of a label that is another column's now",
        "triggers/coverage.py",
        "elsewhere = source in now and _is_another_column(place, now[source])",
        "elsewhere = False",
        "tests/database/test_coverage.py::test_entries_of_a_name_that_is_another_columns_now_follow",
    ),
    # Claiming
    _step(
        "claim only what is clear",
        "ledger/claims.py",
        "AND p.stamp_id IS NOT NULL AND (p.stamp_id IN (SELECT id FROM ready)) IS TRUE",
        "AND p.stamp_id IS NOT NULL",
        _drain("claims.py::test_name_with_an_entry_whose_fence_is_not_clear_is_left"),
    ),
    _step(
        "whole-name claims",
        "ledger/claims.py",
        "FOR UPDATE OF p SKIP LOCKED) p",
        "LIMIT 1 FOR UPDATE OF p SKIP LOCKED) p",
        _drain("claims.py::test_all_entries_of_a_name_settle_together_however_many"),
    ),
    _step(
        "whole-name claims, entries that wait for a retry",
        "ledger/claims.py",
        "AND p.stamp_id IS NOT NULL AND (p.stamp_id IN (SELECT id FROM ready)) IS TRUE",
        "AND p.stamp_id IS NOT NULL AND (p.stamp_id IN (SELECT id FROM ready)) IS TRUE AND p.retry_at IS NULL",
        _drain("claims.py::test_entries_that_wait_for_a_retry_or_have_no_attempt_left_go_with_their_name"),
    ),
    _step(
        "row lock",
        "ledger/claims.py",
        "FOR UPDATE OF p SKIP LOCKED) p",
        ") p",
        _story("without_row_locks_two_drains_delete_and_tell_of_the_same_name"),
    ),
    _step(
        "row lock that nobody waits for",
        "ledger/claims.py",
        "FOR UPDATE OF p SKIP LOCKED) p",
        "FOR UPDATE OF p) p",
        _drain("two_drains.py::test_second_drain_passes_over_what_the_first_has_claimed"),
    ),
    # Settling
    _step(
        "settle by claimed id",
        "ledger/settling.py",
        "DELETE FROM pending_file_deletion p USING done WHERE p.id = done.id",
        "DELETE FROM pending_file_deletion p USING done WHERE p.name = (SELECT name FROM pending_file_deletion o "
        "WHERE o.id = done.id)",
        _story("settled_by_name_an_entry_that_came_meanwhile_is_lost_and_its_file_stays_for_ever"),
    ),
    _step(
        "order: the file goes before its entry",
        "drain/dispose.py",
        "gone = []",
        'settling = __import__("pgcleanup.ledger.settling").ledger.settling; gone = []; '
        'settling.write(self.using, [settling.Settlement(file.claim.ids, "deleted") for file in files], ""); '
        '__import__("django.db").db.connections[self.using].connection.commit()',
        _story("settled_before_its_deletion_a_file_stays_for_ever_if_the_drain_dies_in_between"),
    ),
    _step(
        "synchronous stamp",
        "ledger/fence.py",
        '"synchronous_commit": "on",',
        "",
        _drain("transactions.py::test_stamp_is_durable_so_that_no_crash_of_the_server_brings_a_row_back"),
    ),
    # The look at the file
    _step(
        "order: the look comes after the check",
        "drain/batch.py",
        "answer = yield from self._check(key, found) if key in context.unrecorded",
        "adapter = context.stores[key].adapter; early = adapter.look_many([claim.name for claim in found]); "
        "adapter.look_many = lambda names: {name: early[name] for name in names}\n        "
        "answer = yield from self._check(key, found)\n        if key in context.unrecorded",
        _story("with_a_look_before_the_check_alone_an_upload_is_missed_that_came_after_the_look"),
    ),
    _step(
        "upload window",
        "drain/decide.py",
        "if seen.age is not None and seen.age < upload_window:",
        "if False:",
        _story("without_the_upload_window_an_upload_goes_whose_row_is_not_committed_yet"),
    ),
    _step(
        "upload window, whatever the grace period",
        "drain/dispose.py",
        "self._upload_window = settings.upload_window",
        "self._upload_window = min(settings.upload_window, meanwhile.grace)",
        _drain("crashes.py::test_grace_period_of_nought_leaves_the_upload_window_as_it_is"),
    ),
    _step(
        "young file waits instead of being settled",
        "drain/decide.py",
        'return Left("upload_window", wait, f"written {round(seen.age.total_seconds())} s ago")',
        'return Settled(Outcome.KEPT, "young")',
        _story("settled_as_kept_a_file_stays_for_ever_that_was_overwritten_by_an_upload_without_a_row"),
    ),
    _step(
        "absent means no delete",
        "drain/decide.py",
        'return Settled(Outcome.ABSENT, "")',
        "return None",
        _story("with_a_call_to_delete_what_is_absent_an_upload_goes_that_takes_the_free_name_in_between"),
    ),
    _step(
        "absent names are told of",
        "drain/dispose.py",
        "if way.heard: delivery = self._announce(way.column, claim) "
        "if delivery is None: return self._tell_after(claim, delivery)",
        "pass",
        _drain("crashes.py::test_next_drain_settles_as_absent_what_a_crash_left_and_tells_both_receivers"),
    ),
    _step(
        "second look after receivers",
        "drain/dispose.py",
        "again = self._look([(file.claim, file.way) for file in told])",
        "again = [File(file.claim, file.way, file.seen) for file in told]",
        _story("without_a_second_look_an_upload_goes_that_overwrites_the_file_while_a_receiver_works"),
    ),
    _step(
        "an upload that takes a name which a receiver has freed",
        "drain/deliver.py",
        "None if name == self.name else delete(name)",
        "delete(name)",
        _drain("receivers.py::test_class_of_a_field_deletes_no_upload_that_takes_the_name_which_a_receiver_has_freed"),
    ),
    _step(
        "second check after receivers",
        "drain/dispose.py",
        "if files and self.meanwhile.receivers.ran:",
        "if False:",
        _drain("receivers.py::test_file_that_a_receiver_names_in_a_row_is_kept"),
    ),
    _step(
        "a pre receiver that raises keeps the file",
        "drain/deliver.py",
        'raise ReceiverError(f"{type(response).__name__}: {response}") from response',
        "pass",
        _drain("receivers.py::test_pre_receiver_that_raises_keeps_its_file_and_postpones_the_name_with_that_error"),
    ),
    _step(
        "clean names",
        "drain/decide.py",
        "reason = unclean(claim.name)",
        "reason = None",
        _drain("names.py::test_name_that_is_not_clean_is_rejected_and_nothing_is_touched"),
    ),
    _step(
        "folders are no files",
        "drain/decide.py",
        "if seen.presence is Presence.DIRECTORY:",
        "if False:",
        _drain("names.py::test_name_of_a_folder_is_rejected_and_the_folder_stays"),
    ),
    _step(
        "storage that suddenly has nothing",
        "drain/batch.py",
        "if reason is not None: store.down = absence",
        "if False:\n                store.down = absence",
        _drain("absence.py::test_storage_whose_root_is_gone_is_not_believed"),
    ),
    _step(
        "files of rows as witnesses of what is absent",
        "drain/absence.py",
        "if (reason := _without_named_files(seen, enough)) is not None:",
        "if False:",
        _drain("absence.py"),
    ),
    _step(
        "a name whose receivers lose the connection waits",
        "drain/poison.py",
        "if store.telling is not None:",
        "if False:",
        _drain("receivers.py::test_receiver_that_loses_the_connection_keeps_no_other_name_from_its_turn"),
    ),
    _step(
        "failures of earlier drains count",
        "drain/breaker.py",
        "_remember_failures(context)",
        "pass",
        _drain("breaker.py::test_names_that_come_one_by_one_in_an_outage_use_up_an_attempt_only_until_it_is_known"),
    ),
    _step(
        "an answer that failed is no absence",
        "storages/generic.py",
        "if self._overwrites and not says_not_found(error):",
        "if False:",
        _drain("places.py::test_file_whose_storage_denies_having_it_and_then_does_not_answer_is_not_taken_for_absent"),
    ),
    _step(
        "writes of receivers by other aliases are noticed",
        "drain/meanwhile.py",
        "self.used_another = True",
        "pass",
        _drain("receivers_that_write.py::test_file_that_a_receiver_names_in_a_large_table_by_another_alias_is_kept"),
    ),
    _step(
        "writes of receivers in other threads are noticed",
        "drain/meanwhile.py",
        "SELECT pg_catalog.pg_current_snapshot()::text,",
        "SELECT 'the same',",
        _drain("receivers_that_write.py::test_file_that_a_pre_receiver_names_in_a_row_is_kept"),
    ),
    _step(
        "writes of receivers in the drain's own transaction are noticed",
        "drain/meanwhile.py",
        "if now == before and now.written is not None and not another:",
        "if before and now.snapshot == before.snapshot and not another:",
        _drain("receivers_that_write.py::test_file_that_a_pre_receiver_names_in_a_row_is_kept"),
    ),
    _step(
        "writes of receivers to large tables are noticed",
        "drain/meanwhile.py",
        "earlier is not None and earlier == later and not another",
        "earlier is not None and not another",
        _drain("receivers_that_write.py::test_file_that_a_pre_receiver_names_in_a_row_of_a_large_table_is_kept"),
    ),
    _step(
        "folder that suddenly has nothing",
        "drain/absence.py",
        "if count >= _SUSPICIOUS_NAMES and",
        "if False and",
        _drain("absence.py::test_folder_on_another_volume_that_is_gone_is_not_believed"),
    ),
    _step(
        "rows that cannot be asked for witnesses",
        "drain/absence.py",
        "if not seen.asked and seen.unasked:",
        "if False:",
        _drain("absence.py::test_rows_that_cannot_be_asked_let_nothing_settle_as_absent"),
    ),
    _step(
        "columns that are gone",
        "references/checking.py",
        "AND (a.attnum IS NULL OR w.attname",
        "AND a.attnum IS NOT NULL AND (w.attname",
        _drain("places.py::test_storage_is_left_alone_by_a_process_that_has_a_column_which_is_gone"),
    ),
    _step(
        "short turns of waiting for locks",
        "references/checking.py",
        "least(500, setting::int4 / 2)::text",
        "'5s'",
        _drain("transactions.py::test_migration_that_locks_one_table_after_the_other_is_not_ended_by_a_drain"),
    ),
    _step(
        "volume that goes in the midst of a batch",
        "drain/absence.py",
        "if looked.found_last and present >= absent:",
        "if present >= absent:",
        _drain("absence.py"),
    ),
    _step(
        "storage that is down uses up no attempts",
        "drain/asking.py",
        "if self.store.down is not None: out.put_off(claim, self.store.down)",
        "if False: pass",
        _drain("breaker.py"),
    ),
    _step(
        "storage that hung comes after the others",
        "drain/breaker.py",
        "context.put_last.add(key)",
        "pass",
        _drain("breaker.py"),
    ),
    _step(
        "hanging call ends with its process",
        "drain/deadline.py",
        "elif current is not None and time.monotonic() - since >= self._timeout:",
        "elif False:",
        _drain("storage_timeout.py::test_only_a_call_that_is_still_the_same_after_the_timeout_hangs"),
    ),
    _step(
        "connection guard",
        "drain/guard.py",
        "quiet = self._socket is not None and not self._socket.poll(0)",
        "return",
        _story("without_the_look_at_the_connection_a_drain_that_lost_it_deletes_an_upload"),
    ),
    _step(
        "deletion of what was seen, one at a time",
        "storages/s3.py",
        'condition = {"IfMatch": seen.version} if self._if_match else {}',
        "condition = {}",
        "tests/clouds/test_s3.py::test_file_that_is_written_over_between_the_look_and_the_deletion_stays",
    ),
    _step(
        "deletion of what was seen, many at a time",
        "storages/s3.py",
        'yield {"Key": key, "ETag": seen.version} if self._if_match else {"Key": key}',
        'yield {"Key": key}',
        "tests/clouds/test_s3.py::test_file_that_is_written_over_between_the_look_and_the_deletion_stays",
    ),
    _step(
        "only the versions that were seen",
        "storages/s3.py",
        'yield {"Key": key, "VersionId": version, **condition}',
        'yield {"Key": key, **condition}',
        "tests/clouds/test_contract.py::TestVersions",
    ),
    _step(
        "a listing proves no absence",
        "storages/s3.py",
        "rest = [name for name in names if name not in found]",
        "found.update({name: ABSENT for name in names if name not in found}); rest: list[str] = []",
        "tests/clouds/test_s3.py::test_listing_without_a_name_proves_nothing",
    ),
    _step(
        "a name for another file",
        "storages/s3.py",
        r'return None if "\\" in name else key',
        "return key",
        "tests/clouds/test_contract.py::test_name_under_which_the_storage_has_another_file_is_left_alone",
    ),
    _step(
        "names that were not tried come again",
        "drain/asking.py",
        "self.untried.append(claim)",
        "self.failed.append((call, claim, RuntimeError()))",
        "tests/drain/test_threads.py::test_drain_that_is_told_to_stop_begins_no_further_call",
    ),
    Step(
        "connection guard between the look and the deletion",
        (
            Edit("pgcleanup/drain/dispose.py", "self.guard.check(ask=adapter.remote)", "pass"),
            Edit(
                "pgcleanup/drain/batch.py",
                "store.calls.alive, store.calls.enough = guard.check, context.is_stopping",
                "store.calls.enough = context.is_stopping",
            ),
        ),
        (_drain("crashes.py::test_connection_that_goes_while_a_storage_looks_for_a_file_keeps_it_from_being_deleted"),),
    ),
    _step(
        "connection guard before the settlement, after an error",
        "drain/guard.py",
        "if raw is None or raw is not session or raw.closed: return True",
        "pass",
        _drain("crashes.py"),
    ),
    # What is kept, and by whom
    _step(
        "defaults",
        "drain/context.py",
        'return "default" if claim.name in self.defaults.get(claim.storage_key, ()) else None',
        "return None",
        _drain("defaults.py::test_default_that_another_drain_stamped_meanwhile_is_kept"),
    ),
    _step(
        "defaults, at once",
        "drain/at_once.py",
        "return context.defaults.get(key, set())",
        "return set()",
        _drain("defaults.py::test_default_is_kept_before_its_grace_period_is_over_and_while_transactions_are_open"),
    ),
    _step(
        "excluded here, recorded there",
        "drain/at_once.py",
        "if context.compare_columns and inspection.still_records(column):",
        "if False:",
        _drain("defaults.py::test_column_that_only_this_process_excludes_is_left_alone"),
    ),
    _step(
        "keep()",
        "drain/decide.py",
        "if claim.keep:",
        "if False:",
        _drain("report.py::test_keep_settles_as_kept"),
    ),
    _step(
        "cancelled",
        "drain/decide.py",
        "if claim.cancelled:",
        "if False:",
        _drain("report.py::test_cancelled_name_settles_as_cancelled"),
    ),
    _step(
        "no drain inside a transaction",
        "drain/preflight.py",
        "if not inside_transaction and (connection.in_atomic_block or not connection.get_autocommit()):",
        "if False:",
        _drain("transactions.py::test_drain_inside_a_transaction_is_refused"),
    ),
    _step(
        "no drain with marks of django-cleanup that nothing reads",
        "drain/preflight.py",
        'yield from (f"{what}. {advice}" for what, advice in leftovers())',
        "yield from ()",
        _drain("refusals.py::test_model_that_django_cleanup_was_told_to_ignore_is_refused"),
    ),
    _step(
        "no drain while paused or in a copy",
        "drain/preflight.py",
        "raise DrainRefused(str(reason))",
        "pass",
        _drain("pause.py::test_drain_of_a_paused_database_refuses_and_says_who_when_why_and_how_to_go_on"),
        _drain("adopt.py::test_drain_of_a_copy_refuses_and_says_what_differs"),
    ),
    _step(
        "a drain that is under way obeys a pause",
        "drain/context.py",
        "if self.pause is not None and (withheld := self.pause()) is not None:",
        "if False:",
        _drain("pause.py::test_running_drain_stops_after_the_few_files_it_is_at"),
    ),
    _step(
        "a trial deletes nothing",
        "drain/run.py",
        "if not settings.delete_files:",
        "if False:",
        "tests/database/test_command_drain.py::test_trial_says_plainly_that_nothing_is_deleted",
    ),
    _step(
        "a call that hangs ends its process",
        "drain/deadline.py",
        "os._exit(_EXIT_CODE)",
        "return",
        _drain("storage_timeout.py::test_command_ends_with_one_where_a_deletion_hangs_and_the_deletion_ends_with_it"),
        slow=True,
    ),
)
