-- Whatever is wrong with the ledger, after a partial restore for example, the user's write goes on.
    -- to_regclass() throws where the schema may not be used.
    IF NOT coalesce(CASE WHEN has_schema_privilege(to_regnamespace({ledger_schema:l}), 'USAGE')
                         THEN has_table_privilege(to_regclass({ledger_name:l}), 'INSERT') END, false) THEN
        RAISE WARNING 'pgcleanup: no ledger to write to, old file names of % are not recorded', TG_RELID::regclass;
        RETURN NULL;
    END IF;
    IF current_setting('pgcleanup.recording', true) = 'on' THEN
        {insert:q};
    ELSE
        -- The first entry of a transaction shows that the ledger takes them: nobody else can alter it from then on.
        -- The others have no block of their own, each of which would spend a subtransaction id.
        BEGIN
            {insert:q};
        EXCEPTION WHEN OTHERS THEN
            IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58') THEN
                RAISE;                       -- what the user's write could meet itself
            END IF;
            RAISE WARNING 'pgcleanup: old file names of % are not recorded: %', TG_RELID::regclass, SQLERRM;
            RETURN NULL;
        END;
        IF FOUND THEN
            PERFORM set_config('pgcleanup.recording', 'on', true);
        END IF;
    END IF;
    {notify:q}
