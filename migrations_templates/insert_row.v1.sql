INSERT INTO {ledger:q} (source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep)
    SELECT u.source, u.old, _pk, TG_OP, pg_current_xact_id()::text::bigint, session_user, current_setting('application_name'),
           coalesce(nullif(current_setting('pgcleanup.context', true), ''), nullif(current_setting('pghistory.context_metadata', true), '')), coalesce(current_setting('pgcleanup.keep', true), '') = 'on'
      FROM (VALUES {old_and_new:q}) AS u(source, old, new)
     WHERE u.old <> '' AND u.old IS DISTINCT FROM u.new
