-- Who is due at a connection, oldest first. Keep-alive asks every second; by the time alone it read every account.
create index accounts_due on accounts (connection_id, keep_alive_at) where keep_alive_at is not null;
drop index accounts_by_keep_alive;
