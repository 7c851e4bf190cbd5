-- Record the names that one row of a table lets go, on UPDATE and, where it is fired for it, on DELETE.
-- * A value becomes text only through concat(), its type's output function. A cast or to_jsonb would run
--   code that the table's owner can supply, as this function's owner.
-- * A column that was renamed, retyped or dropped a moment ago must not fail the user's write: names first,
--   attribute numbers only where a name is gone, since numbers change in dump and restore.
-- * What can fail stands in a block of its own that writes nothing, or no more than once in a transaction: a block
--   that writes spends a subtransaction id.
CREATE OR REPLACE FUNCTION {function:q}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag:q}
DECLARE
    _old text[];
    _new text[];                             -- of a DELETE: NULL, which differs from each old name
    _pk text;
    _list text;
BEGIN
    BEGIN
        IF ({old_names:q}) = ({new_names:q}) THEN
            RETURN NULL;                     -- most updates: no array is made for them
        END IF;
        _old := ARRAY[{old_names:q}];
        _new := ARRAY[{new_names:q}];
        _pk := {primary_key:q};
    EXCEPTION WHEN undefined_column OR datatype_mismatch THEN
        SELECT string_agg(CASE WHEN a.attname IS NULL THEN 'NULL' ELSE format('concat(($1).%I)', a.attname) END, ', ' ORDER BY c.i)
          INTO _list
          FROM unnest({columns:q}, {attnums:q}) WITH ORDINALITY AS c(name, attnum, i)   -- the primary key last
          LEFT JOIN LATERAL (
              SELECT x.attname
                FROM pg_attribute x
                LEFT JOIN pg_attribute r ON r.attrelid = coalesce(pg_partition_root(TG_RELID), TG_RELID)
                                        AND r.attnum = c.attnum AND NOT r.attisdropped
               WHERE x.attrelid = TG_RELID AND NOT x.attisdropped AND x.attname IN (c.name, r.attname)
               ORDER BY x.attname <> c.name LIMIT 1) a ON true;
        EXECUTE 'SELECT ARRAY[' || _list || ']::text[]' INTO _old USING OLD;
        IF TG_OP = 'UPDATE' THEN
            EXECUTE 'SELECT ARRAY[' || _list || ']::text[]' INTO _new USING NEW;
        END IF;
        _pk := {moved_primary_key:q};
    END;
    {record:q}
    RETURN NULL;
END
{tag:q};
