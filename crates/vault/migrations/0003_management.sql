-- What an administrator sets beside what the first schema knew. revision counts changes, so that two at once do not lose
-- one; a node of the version before does not count, and does not change these rows either.
alter table apis add column revision bigint not null default 1;

-- profile: what only people and their tools read (description, logo, metadata) and switches that came later, as JSON.
alter table clients add column profile text not null default '{}';
alter table clients add column revision bigint not null default 1;

alter table client_keys add column name text;

alter table client_grants add column allow_all_scopes bigint not null default 0;
alter table client_grants add column revision bigint not null default 1;

-- authentication_active: kept for tools that set it; nobody logs in through a connection.
alter table connections add column authentication_active bigint not null default 0;
alter table connections add column metadata text not null default '{}';
alter table connections add column revision bigint not null default 1;

-- profile: names, picture and metadata, as JSON.
alter table users add column profile text not null default '{}';
alter table users add column revision bigint not null default 1;
create index users_by_email on users (email);

-- What people see of the deployment: its name, its picture, whom to ask. One row, once it was set.
create table tenant_settings (
    singleton   bigint primary key check (singleton = 1),
    settings    text   not null,
    revision    bigint not null,
    updated_at  bigint not null
);

-- When a refresh token ends of idleness, null where it does not. Its use puts it off.
alter table refresh_tokens add column idle_expires_at bigint;
