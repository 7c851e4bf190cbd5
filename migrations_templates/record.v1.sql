-- Whatever is wrong with the ledger, after a partial restore for example, the user's write goes on.
    IF current_setting('pgcleanup.recording', true) = 'on' AND to_regclass({ledger_name:l}) IS NOT NULL THEN
        {insert:q};
    ELSE
        -- The first entry of a transaction shows that the ledger takes them: nobody else can alter it from then on,
        -- and the transaction itself does no more than drop it.
        -- The others have no block of their own, each of which would spend a subtransaction id.
        BEGIN
            {insert:q};
        EXCEPTION WHEN OTHERS THEN
            IF left(SQLSTATE, 2) IN ('40', '53', '57', '58') OR SQLSTATE = '55P03' THEN
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
