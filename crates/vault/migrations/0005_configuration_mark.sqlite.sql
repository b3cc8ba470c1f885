-- The triggers of 0005_configuration_mark.sql.
create trigger clients_insert_mark after insert on clients begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger clients_update_mark after update on clients begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger clients_delete_mark after delete on clients begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger client_secrets_insert_mark after insert on client_secrets begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger client_secrets_update_mark after update on client_secrets begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger client_secrets_delete_mark after delete on client_secrets begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger client_keys_insert_mark after insert on client_keys begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger client_keys_update_mark after update on client_keys begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger client_keys_delete_mark after delete on client_keys begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger connections_insert_mark after insert on connections begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger connections_update_mark after update on connections begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger connections_delete_mark after delete on connections begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger connection_clients_insert_mark after insert on connection_clients begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger connection_clients_update_mark after update on connection_clients begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger connection_clients_delete_mark after delete on connection_clients begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger signing_keys_insert_mark after insert on signing_keys begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger signing_keys_update_mark after update on signing_keys begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
create trigger signing_keys_delete_mark after delete on signing_keys begin
    update configuration_mark set mark = lower(hex(randomblob(16)));
end;
update configuration_mark set mark = lower(hex(randomblob(16)));
