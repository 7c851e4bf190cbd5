INSERT INTO {ledger:q} (source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep)
SELECT v.source, v.name, {primary_key_of_row:q}, 'DELETE', pg_current_xact_id()::text::bigint, session_user, current_setting('application_name'),
       coalesce(nullif(current_setting('pgcleanup.context', true), ''), nullif(current_setting('pghistory.context_metadata', true), '')), coalesce(current_setting('pgcleanup.keep', true), '') = 'on'
  FROM _old_rows o
 CROSS JOIN LATERAL (VALUES {values_of_row:q}) AS v(source, name)
 WHERE v.name <> ''
