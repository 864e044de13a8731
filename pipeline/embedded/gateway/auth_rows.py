"""The two statements that write a user: one each, so that no user is left without the identity that signs them in."""

from __future__ import annotations

CREATE = """
with made as (
    insert into auth.users (
        instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data,
        raw_user_meta_data, created_at, updated_at, is_anonymous
    )
    values (
        '00000000-0000-0000-0000-000000000000', %(id)s, 'authenticated', 'authenticated', %(email)s, %(hashed)s,
        case when not %(anonymous)s then now() end, %(app_metadata)s, %(user_metadata)s, now(), now(), %(anonymous)s
    )
    returning *
), identity as (
    insert into auth.identities (
        provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at
    )
    select id::text, id, %(identity)s, 'email', now(), now(), now() from made where not is_anonymous
)
select * from made
"""

CHANGE = """
with changed as (
    update auth.users set
        email = coalesce(%(email)s, email),
        email_confirmed_at = coalesce(email_confirmed_at, case when %(email)s::text is not null then now() end),
        is_anonymous = is_anonymous and %(email)s::text is null,
        encrypted_password = coalesce(%(hashed)s, encrypted_password),
        raw_user_meta_data = coalesce(raw_user_meta_data, '{}') || %(user_metadata)s,
        raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || %(app_metadata)s || case
            when %(email)s::text is null then '{}'::jsonb
            else '{"provider": "email", "providers": ["email"]}'
        end,
        banned_until = case
            when %(banned)s::text is null then banned_until
            else now() + nullif(%(banned)s, 'none')::interval
        end,
        updated_at = now()
    where id = %(id)s
    returning id, email
)
insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
select
    id::text, id,
    jsonb_build_object('sub', id, 'email', email, 'email_verified', true, 'phone_verified', false),
    'email', now(), now(), now()
from changed where %(email)s::text is not null
on conflict (provider_id, provider) do update set
    identity_data = identities.identity_data || excluded.identity_data, updated_at = now()
"""
"""`banned` is an interval, 'none' to lift a ban, null to leave it."""
