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
    BEGIN
        PERFORM concat({columns_of_row:q}) FROM _old_rows o LIMIT 0;   -- planned, never read
    EXCEPTION WHEN undefined_column OR datatype_mismatch THEN
        _moved := true;
    END;
    IF NOT _moved THEN
        {record:q}
        RETURN NULL;
    END IF;
    {find_columns:q}
    IF _list IS NOT NULL THEN
        {record_moved:q}
    END IF;
    RETURN NULL;
END
{tag:q};
