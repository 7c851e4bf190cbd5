-- After migrate, as the owner of the tables: what the ledger's tables are to the other two roles.
-- The site changes rows and is recorded without any right here, since the triggers write with the owner's.
REVOKE ALL ON pending_file_deletion, settled_file_deletion, file_deletion_stamp, file_deletion_column,
    file_deletion_control FROM app;
-- For the admin: its lists, and its actions "Try again" and "Cancel the deletion". Leave both out where it has none.
GRANT SELECT ON pending_file_deletion, settled_file_deletion, file_deletion_stamp, file_deletion_column,
    file_deletion_control TO app;
GRANT UPDATE (retry_at, attempts, exhausted_at, last_error, cancelled_at) ON pending_file_deletion TO app;

-- The drain reads every row that may name a file, and writes nothing but the ledger,
GRANT SELECT ON ALL TABLES IN SCHEMA public TO drainer;
-- also of tables that owner makes from here on,
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT SELECT ON TABLES TO drainer;
GRANT UPDATE, DELETE ON pending_file_deletion TO drainer;
GRANT INSERT, DELETE ON settled_file_deletion, file_deletion_stamp TO drainer;
GRANT INSERT, UPDATE ON file_deletion_control TO drainer;
-- and what receivers of signals and field classes write: the demo's goodbyes, easy-thumbnails' own tables.
GRANT INSERT ON library_goodbye TO drainer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO drainer;
GRANT INSERT, UPDATE, DELETE ON easy_thumbnails_source, easy_thumbnails_thumbnail,
    easy_thumbnails_thumbnaildimensions TO drainer;
