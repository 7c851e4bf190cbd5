-- Keep the history as it was written: no UPDATE, and a DELETE of what is old alone, by who says how old.
-- * By row: an UPDATE or DELETE that finds none is no change. Nor is writing a row once more as it is, as loaddata does,
--   with times in milliseconds, as JSON has them: the row stays, with its microseconds.
-- * No TRUNCATE: it would break `flush`, and with it every TransactionTestCase.
-- * Not SECURITY DEFINER: it needs no rights.
CREATE OR REPLACE FUNCTION {function:q}() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgcleanup$
DECLARE
    age interval := nullif(current_setting('pgcleanup.prune_older_than', true), '')::interval;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF age >= '0' AND OLD.settled_at < clock_timestamp() - age THEN
            RETURN OLD;
        END IF;
    ELSE
        IF NEW.recorded_at = date_trunc('milliseconds', OLD.recorded_at) THEN NEW.recorded_at := OLD.recorded_at; END IF;
        IF NEW.cancelled_at = date_trunc('milliseconds', OLD.cancelled_at) THEN NEW.cancelled_at := OLD.cancelled_at; END IF;
        IF NEW.stamped_at = date_trunc('milliseconds', OLD.stamped_at) THEN NEW.stamped_at := OLD.stamped_at; END IF;
        IF NEW.settled_at = date_trunc('milliseconds', OLD.settled_at) THEN NEW.settled_at := OLD.settled_at; END IF;
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'pgcleanup: % of %.% is refused: the history stays as it was written', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Entry %s, settled at %s.', OLD.id, OLD.settled_at),
              HINT = 'To delete what is older than PGCLEANUP_HISTORY_RETENTION: manage.py pgcleanup prune. '
                     'For anything else the owner of the table disables the trigger first: '
                     || format('ALTER TABLE %I.%I DISABLE TRIGGER %I;', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_NAME);
END
$pgcleanup$;
