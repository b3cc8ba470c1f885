-- Another mark after every change of what is configured: where it is what it was, so are the clients, their secrets and
-- keys, the connections, who may use them, and the signing keys. Made by triggers, in the transaction of the change, so
-- that whoever writes makes it: nodes of the version before, too. By chance and not by counting, so that a database that
-- was restored never has the mark that another state had.
create table configuration_mark (
    singleton  bigint primary key check (singleton = 1),
    mark       text   not null
);
insert into configuration_mark (singleton, mark) values (1, 'first');
