-- Tell the process that asked for it, once in a transaction. A savepoint that is rolled back takes the mark back.
    -- INFO, which client_min_messages cannot silence; a client that does not know it shows a line and goes on.
    IF FOUND AND current_setting('pgcleanup.notify', true) = 'on' THEN
        PERFORM set_config('pgcleanup.notify', 'told', true);
        RAISE INFO 'pgcleanup: file names were recorded' USING ERRCODE = 'PGC01', DETAIL = pg_current_xact_id()::text;
    END IF;
