-- One deployment a database: a second deployment that opens it by mistake is refused at start.
create table deployment (
    singleton   bigint primary key check (singleton = 1),
    id          text   not null,
    issuer      text   not null,
    created_at  bigint not null
);

-- Data keys, wrapped by a master key. The plain key never touches the database.
create table data_keys (
    purpose        text   not null,
    version        bigint not null,
    master_key_id  text   not null,
    wrapped        blob   not null,
    created_at     bigint not null,
    primary key (purpose, version)
);

-- state: next (published, not signing yet), current (signs), previous (verifies), revoked
create table signing_keys (
    kid          text   primary key,
    alg          text   not null,
    state        text   not null,
    public_jwk   text   not null,
    private_key  blob   not null,
    created_at   bigint not null,
    current_at   bigint,
    previous_at  bigint
);
create unique index signing_keys_current on signing_keys (alg) where state = 'current';

create table apis (
    identifier            text   primary key,
    id                    text   not null unique,
    name                  text   not null,
    scopes                text   not null,
    signing_alg           text   not null,
    token_lifetime        bigint not null,
    allow_offline_access  bigint not null,
    skip_consent          bigint not null,
    user_policy           text   not null,
    client_policy         text   not null,
    created_at            bigint not null,
    updated_at            bigint not null
);

create table clients (
    client_id                   text   primary key,
    name                        text   not null,
    app_type                    text   not null,
    is_first_party              bigint not null,
    token_endpoint_auth_method  text   not null,
    id_token_alg                text   not null,
    grant_types                 text   not null,
    callbacks                   text   not null,
    allowed_logout_urls         text   not null,
    allowed_origins             text   not null,
    resource_server_identifier  text   references apis (identifier),
    refresh_token               text   not null,
    privileged_access           text,
    disabled_at                 bigint,
    created_at                  bigint not null,
    updated_at                  bigint not null
);
create unique index clients_by_resource_server on clients (resource_server_identifier)
    where resource_server_identifier is not null;

-- A generated secret is kept as the HMAC of its secret half; two may live side by side while one is rotated out.
create table client_secrets (
    id          text   primary key,
    client_id   text   not null references clients (client_id) on delete cascade,
    hash        blob   not null,
    created_at  bigint not null,
    expires_at  bigint
);
create index client_secrets_by_client on client_secrets (client_id);

-- purpose: client_authentication (private_key_jwt) or privileged_access (worker exchange)
create table client_keys (
    id          text   primary key,
    client_id   text   not null references clients (client_id) on delete cascade,
    purpose     text   not null,
    kid         text   not null,
    alg         text   not null,
    public_jwk  text   not null,
    created_at  bigint not null,
    expires_at  bigint,
    unique (client_id, purpose, kid)
);

create table client_grants (
    id            text   primary key,
    client_id     text   not null references clients (client_id) on delete cascade,
    audience      text   not null references apis (identifier) on delete cascade,
    subject_type  text   not null,
    scopes        text   not null,
    created_at    bigint not null,
    unique (client_id, audience, subject_type)
);

create table users (
    id             text   primary key,
    username       text   not null unique,
    email          text,
    name           text,
    password_hash  text,
    blocked_at     bigint,
    created_at     bigint not null,
    updated_at     bigint not null
);

create table sessions (
    id               text   primary key,
    hash             blob   not null,
    mac              blob   not null,
    user_id          text   not null references users (id) on delete cascade,
    auth_time        bigint not null,
    created_at       bigint not null,
    expires_at       bigint not null,
    idle_expires_at  bigint not null,
    revoked_at       bigint
);
create index sessions_by_user on sessions (user_id);

create table consents (
    user_id     text   not null references users (id) on delete cascade,
    client_id   text   not null references clients (client_id) on delete cascade,
    audience    text   not null,
    scopes      text   not null,
    granted_at  bigint not null,
    primary key (user_id, client_id, audience)
);

-- An authorization request that waits for a person to log in or consent; the browser holds only its token.
create table interactions (
    id           text   primary key,
    hash         blob   not null,
    request      text   not null,
    created_at   bigint not null,
    expires_at   bigint not null,
    finished_at  bigint
);

create table pushed_requests (
    id          text   primary key,
    hash        blob   not null,
    client_id   text   not null references clients (client_id) on delete cascade,
    request     text   not null,
    created_at  bigint not null,
    expires_at  bigint not null,
    used_at     bigint
);

-- What one user allowed one client at one login. Codes, refresh tokens and access tokens hang on it; revoking it ends them all.
create table authorizations (
    id              text   primary key,
    client_id       text   not null references clients (client_id) on delete cascade,
    user_id         text   not null references users (id) on delete cascade,
    session_id      text,
    audience        text,
    scope           text   not null,
    auth_time       bigint not null,
    created_at      bigint not null,
    revoked_at      bigint,
    revoked_reason  text
);
create index authorizations_by_user on authorizations (user_id, client_id);
create index authorizations_by_session on authorizations (session_id);

create table codes (
    id                text   primary key,
    hash              blob   not null,
    authorization_id  text   not null references authorizations (id) on delete cascade,
    redirect_uri      text   not null,
    code_challenge    text,
    nonce             text,
    created_at        bigint not null,
    expires_at        bigint not null,
    used_at           bigint
);

-- Rotation keeps the used ones as long as the family lives: that is how reuse is seen.
-- successor: the next token of the family, sealed under the presented one, for a retry within the leeway.
create table refresh_tokens (
    id                text   primary key,
    hash              blob   not null,
    mac               blob   not null,
    authorization_id  text   not null references authorizations (id) on delete cascade,
    sequence          bigint not null,
    created_at        bigint not null,
    expires_at        bigint not null,
    rotated_at        bigint,
    successor_id      text,
    successor         blob,
    unique (authorization_id, sequence)
);

create table revoked_access_tokens (
    jti         text   primary key,
    expires_at  bigint not null
);

-- Identifiers of one-time JWTs (client assertions, worker requests), kept until the JWT could no longer be accepted.
create table replays (
    scope       text   not null,
    jti         text   not null,
    expires_at  bigint not null,
    primary key (scope, jti)
);
create index replays_by_expiry on replays (expires_at);

create table throttles (
    key            text   primary key,
    window_start   bigint not null,
    failures       bigint not null,
    blocked_until  bigint
);

create table connections (
    id                         text   primary key,
    name                       text   not null unique,
    strategy                   text   not null,
    display_name               text   not null,
    client_id                  text   not null,
    client_secret              blob,
    options                    text   not null,
    scopes                     text   not null,
    callback_context           text   not null unique,
    connected_accounts_active  bigint not null,
    generation                 bigint not null,
    created_at                 bigint not null,
    updated_at                 bigint not null
);

create table connection_clients (
    connection_id  text not null references connections (id) on delete cascade,
    client_id      text not null references clients (client_id) on delete cascade,
    primary key (connection_id, client_id)
);

-- state: started, opened, sent, returned, redeeming, completed, failed
create table connect_flows (
    id                       text   primary key,
    auth_session_hash        blob   not null,
    ticket_id                text   not null unique,
    ticket_hash              blob   not null,
    user_id                  text   not null references users (id) on delete cascade,
    client_id                text   not null references clients (client_id) on delete cascade,
    connection_id            text   not null references connections (id) on delete cascade,
    redirect_uri             text   not null,
    client_state             text,
    code_challenge           text,
    scopes                   text   not null,
    authorization_params     text   not null,
    state                    text   not null,
    browser_hash             blob,
    provider_state_id        text   unique,
    provider_state_hash      blob,
    provider_cookie_hash     blob,
    secrets                  blob,
    connect_code_hash        blob,
    connect_code_expires_at  bigint,
    created_at               bigint not null,
    expires_at               bigint not null
);
create index connect_flows_by_expiry on connect_flows (expires_at);

-- status: active, reauthorization_required, outcome_unknown
create table accounts (
    id                  text   primary key,
    user_id             text   not null references users (id) on delete cascade,
    connection_id       text   not null references connections (id) on delete cascade,
    subject             text   not null,
    login               text,
    email               text,
    display_name        text,
    scopes              text   not null,
    status              text   not null,
    status_reason       text,
    generation          bigint not null,
    token_set           blob   not null,
    access_expires_at   bigint,
    refresh_expires_at  bigint,
    attempt             bigint not null,
    lease_owner         text,
    lease_until         bigint,
    failures            bigint not null,
    failure             text,
    retry_at            bigint,
    created_at          bigint not null,
    connected_at        bigint not null,
    refreshed_at        bigint,
    unique (user_id, connection_id, subject)
);
create index accounts_by_connection on accounts (connection_id);

-- Written before a provider is asked, finished with the result: an open one past its lease is an uncertain refresh.
create table refresh_intents (
    account_id   text   not null references accounts (id) on delete cascade,
    attempt      bigint not null,
    generation   bigint not null,
    node         text   not null,
    started_at   bigint not null,
    finished_at  bigint,
    outcome      text,
    primary key (account_id, attempt)
);

create table audit (
    id             text   primary key,
    at             bigint not null,
    event          text   not null,
    outcome        text   not null,
    reason         text,
    client_id      text,
    user_id        text,
    connection     text,
    account_id     text,
    scopes         text,
    address        text,
    audit_context  text,
    request_id     text,
    details        text   not null
);
create index audit_by_user on audit (user_id, at);
