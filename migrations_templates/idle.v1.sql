-- Take the place of a record function before its trigger is dropped: user writes go on, nothing is recorded.
CREATE OR REPLACE FUNCTION {function:q}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag:q}
BEGIN
    RETURN NULL;
END
{tag:q};
