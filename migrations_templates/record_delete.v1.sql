-- Record the names that a DELETE lets go, all rows of the statement at once. Ordinary tables
-- only: PostgreSQL fires no statement trigger of a partitioned table for a DELETE aimed at a partition.
-- The rules of record_row hold here, too.
CREATE OR REPLACE FUNCTION {function:q}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag:q}
DECLARE
    _moved boolean := false;
    _list text;
    _pk text;
BEGIN
    IF NOT EXISTS (SELECT FROM _old_rows) THEN
        RETURN NULL;                         -- cascades to children that have no rows
    END IF;
    IF NOT coalesce(has_table_privilege(to_regclass({ledger_name:l}), 'INSERT'), false) THEN
        RAISE WARNING 'pgcleanup: no ledger to write to, old file names of % are not recorded', TG_RELID::regclass;
        RETURN NULL;
    END IF;
    BEGIN
        PERFORM concat({columns_of_row:q}) FROM _old_rows o LIMIT 0;   -- planned, never read
    EXCEPTION WHEN undefined_column OR datatype_mismatch THEN
        _moved := true;
    END;
    IF NOT _moved THEN
        INSERT INTO {ledger:q} (source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep)
        SELECT v.source, v.name, {primary_key_of_row:q}, 'DELETE', pg_current_xact_id()::text::bigint, session_user, current_setting('application_name'),
               coalesce(nullif(current_setting('pgcleanup.context', true), ''), nullif(current_setting('pghistory.context_metadata', true), '')), coalesce(current_setting('pgcleanup.keep', true), '') = 'on'
          FROM _old_rows o
         CROSS JOIN LATERAL (VALUES {values_of_row:q}) AS v(source, name)
         WHERE v.name <> '';
        {notify:q}
        RETURN NULL;
    END IF;
    {find_columns:q}
    IF _list IS NOT NULL THEN
        EXECUTE format($sql$
            INSERT INTO %s (source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep)
            SELECT v.source, v.name, %s, 'DELETE', pg_current_xact_id()::text::bigint, session_user, current_setting('application_name'),
                   coalesce(nullif(current_setting('pgcleanup.context', true), ''), nullif(current_setting('pghistory.context_metadata', true), '')), coalesce(current_setting('pgcleanup.keep', true), '') = 'on'
              FROM _old_rows o CROSS JOIN LATERAL (VALUES %s) AS v(source, name) WHERE v.name <> ''
            $sql$, {ledger_name:l}, coalesce(_pk, 'NULL'), _list);
        {notify:q}
    END IF;
    RETURN NULL;
END
{tag:q};
