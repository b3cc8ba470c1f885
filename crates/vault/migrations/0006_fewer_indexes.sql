-- Whoever asks by the connection alone is served by accounts_by_subject, which begins with it. A refresh writes to every
-- index of its account's row on PostgreSQL.
drop index accounts_by_connection;
