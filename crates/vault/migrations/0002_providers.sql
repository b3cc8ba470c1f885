-- Who an account is and how it is, beside what the first schema knew.
alter table accounts add column organization text;
alter table accounts add column label text;
alter table accounts add column requested_scopes text not null default '[]';
alter table accounts add column variables text not null default '{}';
-- When the refresh token has to be used so that it does not die of idleness, null where that does not happen.
alter table accounts add column keep_alive_at bigint;
-- The end that a warning was already given of.
alter table accounts add column warned_for bigint;

create index accounts_by_keep_alive on accounts (keep_alive_at);
create index accounts_by_refresh_end on accounts (refresh_expires_at);
create index accounts_by_subject on accounts (connection_id, subject);

-- A second client secret while one replaces the other at the provider.
alter table connections add column next_client_secret blob;
alter table connections add column client_secret_expires_at bigint;
alter table connections add column secret_warned_for bigint;

-- Grants that are still to be given back at their provider. The account is gone already.
create table revocations (
    id               text   primary key,
    connection_id    text   not null references connections (id) on delete cascade,
    account_id       text   not null,
    user_id          text   not null,
    -- The account's id at the provider, null where nobody ever learned it.
    subject          text,
    -- Sealed: the tokens.
    tokens           blob   not null,
    variables        text   not null,
    attempts         bigint not null,
    next_attempt_at  bigint not null,
    created_at       bigint not null,
    expires_at       bigint not null
);

create index revocations_by_next_attempt on revocations (next_attempt_at);
