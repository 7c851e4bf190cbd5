-- Record the names that a TRUNCATE of a table lets go. BEFORE it: afterwards there are no rows to read.
CREATE OR REPLACE FUNCTION {function:q}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag:q}
DECLARE
    _list text;
    _pk text;
    _mine oid[];
BEGIN
    IF NOT coalesce(has_table_privilege(to_regclass({ledger_name:l}), 'INSERT'), false) THEN
        RAISE WARNING 'pgcleanup: no ledger to write to, old file names of % are not recorded', TG_RELID::regclass;
        RETURN NULL;
    END IF;
    IF NOT has_table_privilege(TG_RELID, 'SELECT') THEN
        RAISE WARNING 'pgcleanup: % may not be read, its old file names are not recorded', TG_RELID::regclass;
        RETURN NULL;
    END IF;
    IF row_security_active(TG_RELID) THEN
        -- A policy is code of the table's owner, and would run with this function's rights.
        IF NOT EXISTS (SELECT FROM pg_class WHERE oid = TG_RELID AND pg_get_userbyid(relowner) = current_user) THEN
            RAISE WARNING 'pgcleanup: % is under row level security, its old file names are not recorded', TG_RELID::regclass;
            RETURN NULL;
        END IF;
        RAISE WARNING 'pgcleanup: row level security may hide rows of %, whose old file names are then not recorded', TG_RELID::regclass;
    END IF;
    {find_columns:q}
    IF _list IS NOT NULL THEN
        -- Of partitions and children, those below one that has this trigger itself are left to it: it fires, too.
        -- So each name is recorded once, and a TRUNCATE ONLY of a parent records none of theirs.
        WITH RECURSIVE tree(relid) AS (
            SELECT TG_RELID
            UNION
            SELECT i.inhrelid
              FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid
             WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = i.inhrelid AND g.tgname = TG_NAME AND g.tgenabled <> 'D')
        )
        SELECT array_agg(relid) INTO _mine FROM tree;
        EXECUTE format($sql$
            INSERT INTO %s (source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep)
            SELECT v.source, v.name, %s, 'TRUNCATE', pg_current_xact_id()::text::bigint, session_user, current_setting('application_name'),
                   coalesce(nullif(current_setting('pgcleanup.context', true), ''), nullif(current_setting('pghistory.context_metadata', true), '')), coalesce(current_setting('pgcleanup.keep', true), '') = 'on'
              FROM %s o CROSS JOIN LATERAL (VALUES %s) AS v(source, name)
             WHERE v.name <> '' AND o.tableoid = ANY ($1)
            $sql$, {ledger_name:l}, coalesce(_pk, 'NULL'), TG_RELID::regclass, _list) USING _mine;
        {notify:q}
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- What a policy or a foreign server throws must not fail the user's TRUNCATE; what it could meet itself does.
    IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58') THEN
        RAISE;
    END IF;
    RAISE WARNING 'pgcleanup: old file names of % are not recorded: %', TG_RELID::regclass, SQLERRM;
    RETURN NULL;
END
{tag:q};
