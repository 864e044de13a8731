-- Tries, as whoever runs it, every right on what is ours, and leaves those that it has in the setting attack.granted.
-- Statements are planned where that asks for the right already, and undone where they must run.
do $do$
declare
  thing record;
  granted text[] := '{}';
begin
  perform set_config('search_path', '', true);
  for thing in
    with relations as (
      select c.oid, c.oid::regclass::text as name, c.relkind, case c.relkind when 'v' then 'view ' else 'table ' end || c.relname as object
        from pg_catalog.pg_class c
       where c.relnamespace in ('pipeline'::regnamespace, 'public'::regnamespace) and c.relkind in ('r', 'v')
    )
    -- every column, read and written
    select r.object, format('%s(%I) %s', r.name, a.attname, o.operation) as "right", format(o.statement, a.attname, r.name) as statement
      from relations r
      join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
     cross join (values ('select', 'explain select %1$I from %2$s'), ('insert', 'explain insert into %2$s (%1$I) values (default)'),
                        ('update', 'explain update %2$s set %1$I = default')) as o (operation, statement)
     where r.relkind = 'r' or o.operation = 'select' or pg_catalog.pg_column_is_updatable(r.oid, a.attnum, false)
    union all
    select r.object, format('%s %s', r.name, o.operation), format(o.statement, r.name)
      from relations r
     cross join (values ('delete', 'explain delete from %s'), ('truncate', 'truncate %s'), ('lock', 'lock table %s'),
                        ('trigger', 'create trigger mine before insert on %s '
                                    'execute function pg_catalog.suppress_redundant_updates_trigger()')) as o (operation, statement)
     where r.relkind = 'r' or o.operation = 'delete' and pg_catalog.pg_relation_is_updatable(r.oid, false) & 16 > 0
    union all
    select 'sequence ' || c.relname, format('%s nextval', c.oid::regclass), format('select pg_catalog.nextval(%L)', c.oid::regclass)
      from pg_catalog.pg_class c
     where c.relnamespace in ('pipeline'::regnamespace, 'public'::regnamespace) and c.relkind = 'S'
    union all
    select 'function ' || p.proname, format('%s.%s execute', p.pronamespace::regnamespace, p.proname),
           case when p.prorettype = 'trigger'::regtype
                then format('create temp table bait (); '
                            'create trigger mine after insert on pg_temp.bait execute function %s()', p.oid::regproc)
                else format('explain select %s(%s)', p.oid::regproc,
                            (select string_agg(format('null::%s', pg_catalog.format_type(a, null)), ', ' order by o)
                               from unnest(p.proargtypes) with ordinality as u (a, o))) end
      from pg_catalog.pg_proc p
     where p.pronamespace in ('pipeline'::regnamespace, 'public'::regnamespace) and p.prokind = 'f'
    union all
    select 'schema ' || n.nspname, format('schema %I create', n.nspname), format('create table %I.mine ()', n.nspname)
      from pg_catalog.pg_namespace n
     where n.nspname in ('pipeline', 'public', 'extensions', 'auth', 'storage', 'realtime')
  loop
    begin
      execute thing.statement;
      raise exception using errcode = 'ZZ000', message = 'undo';
    exception
      when insufficient_privilege then
        -- refused at the thing itself, and not at something behind it, which may be another's to open
        if sqlerrm !~ ('^(permission denied for|must be owner of) ' || replace(thing.object, ' ', ' (\w+\.)?') || '$') then
          granted := granted || (thing."right" || ': ' || sqlerrm);
        end if;
      when generated_always then null;  -- an identity behind a view: tried at its table
      when others then granted := granted || thing."right";
    end;
  end loop;
  perform set_config('attack.granted', (select coalesce(string_agg(distinct g, E'\n'), '') from unnest(granted) g), true);
end
$do$
