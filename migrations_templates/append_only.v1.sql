-- Keep the history as it was written: no UPDATE, and a DELETE of what is old alone, by who says how old.
-- * By row: the UPDATE of loaddata, which finds no row, and a DELETE that finds none are no change.
-- * No TRUNCATE: it would break `flush`, and with it every TransactionTestCase.
-- * Not SECURITY DEFINER: it needs no rights.
CREATE OR REPLACE FUNCTION {function:q}() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgcleanup$
BEGIN
    IF TG_OP = 'DELETE'
       AND OLD.settled_at < clock_timestamp() - nullif(current_setting('pgcleanup.prune_older_than', true), '')::interval THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'pgcleanup: % of %.% is refused: the history stays as it was written', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Entry %s, settled at %s.', OLD.id, OLD.settled_at),
              HINT = 'To delete what is older than PGCLEANUP_HISTORY_RETENTION: manage.py pgcleanup prune. '
                     'For anything else the owner of the table disables the trigger first: '
                     || format('ALTER TABLE %I.%I DISABLE TRIGGER %I;', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_NAME);
END
$pgcleanup$;
