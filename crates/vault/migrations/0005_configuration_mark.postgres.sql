-- The triggers of 0005_configuration_mark.sql. Deferred: the mark's row is locked last, at the commit, so that two
-- administrators never wait for each other in a circle. Once a transaction, which a setting remembers that ends with it.
create function change_configuration_mark() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('tokenvault.configuration_marked', true), '') <> 'yes' then
        update configuration_mark set mark = gen_random_uuid()::text;
        perform set_config('tokenvault.configuration_marked', 'yes', true);
    end if;
    return null;
end $$;
create constraint trigger clients_mark after insert or update or delete on clients
    deferrable initially deferred for each row execute function change_configuration_mark();
create constraint trigger client_secrets_mark after insert or update or delete on client_secrets
    deferrable initially deferred for each row execute function change_configuration_mark();
create constraint trigger client_keys_mark after insert or update or delete on client_keys
    deferrable initially deferred for each row execute function change_configuration_mark();
create constraint trigger connections_mark after insert or update or delete on connections
    deferrable initially deferred for each row execute function change_configuration_mark();
create constraint trigger connection_clients_mark after insert or update or delete on connection_clients
    deferrable initially deferred for each row execute function change_configuration_mark();
create constraint trigger signing_keys_mark after insert or update or delete on signing_keys
    deferrable initially deferred for each row execute function change_configuration_mark();
update configuration_mark set mark = gen_random_uuid()::text;
