"""Attacks on the files: what Storage writes as its caller, and what its final write may not let through."""

from __future__ import annotations

from tests.access.world import World, attack

OPEN = "create policy open on storage.objects for all to public using (true) with check (true)"


@attack
def an_owner_keeps_files(w: World) -> None:
    """No attack: an owner uploads, reads, overwrites, moves and deletes in her folder; each makes work or ends it."""
    name = f"{w.alice}/folder/new.txt"
    w.be(w.alice)
    w.write(name, owner=w.alice)
    document = w.value("select id from public.documents where name = %s", name)
    assert w.sql("select 1 from storage.objects where name = %s", name)
    assert w.sql("update storage.objects set version = '2' where name = %s returning 1", name)
    moved = f"{w.alice}/folder/moved.txt"
    assert w.sql("update storage.objects set name = %s, version = '3' where name = %s returning 1", moved, name)
    states = [
        row["state"]
        for row in w.sql("select state from public.jobs where name like %s order by id", f"{w.alice}/folder/%")
    ]
    assert states == ["cancelled", "cancelled", "available"]
    documents = w.sql("select id, name from public.documents where name like %s", f"{w.alice}/folder/%")
    assert documents == [{"id": document, "name": moved}], "it is one document over its versions and names"
    w.sql("update storage.objects set version = '4' where name = %s", f"{w.alice}/ledger-of-alice.txt")
    assert w.search("zanzibar"), "the old text is found until the new one is there"
    assert len(w.remove(moved)) == 1
    assert w.value("select state from public.jobs where name = %s", moved) == "cancelled"
    assert w.sql("select 1 from public.documents where name = %s", moved) == []


@attack
def a_file_that_leaves_the_bucket_ends(w: World) -> None:
    """Somebody moves a file out of the bucket, where our rules do not hold, to keep its text searchable: it is gone."""
    w.be("postgres")
    w.sql("insert into storage.buckets (id, name) values ('attic', 'attic')")
    w.be("service_role")
    name = f"{w.alice}/ledger-of-alice.txt"
    w.sql("update storage.objects set bucket_id = 'attic', version = gen_random_uuid()::text where name = %s", name)
    w.be(w.alice)
    assert w.sql("select 1 from public.chunks") == [] and w.search("zanzibar") == []


@attack
def a_stranger_uploads_into_anothers_folder(w: World) -> None:
    """A stranger wants her text in another's search, or her quota used up: refused, whoever she calls the owner."""
    for who in (w.mallory, "anon"):
        w.be(who)
        for owner in (w.alice, w.mallory, None):
            for version in ("1", None):
                with w.refused(match="row-level security"):
                    w.write(f"{w.alice}/planted.txt", version=version, owner=owner)


@attack
def somebody_who_did_not_sign_in_uploads(w: World) -> None:
    """Whoever has only the public key wants to store a file anywhere in the bucket: refused."""
    w.be("anon")
    for folder in (w.alice, "", "shared", "null", "00000000-0000-0000-0000-000000000000"):
        with w.refused(match="row-level security"):
            w.write(f"{folder}/x.txt")
    w.be("authenticated")
    for folder in ("", "null", w.alice):
        with w.refused(match="row-level security"):
            w.write(f"{folder}/x.txt")


@attack
def a_stranger_reads_lists_and_removes_anothers_files(w: World) -> None:
    """A stranger wants names, bytes or the end of another's files: she sees and deletes none."""
    for who in (w.mallory, "anon"):
        w.be(who)
        seen = w.sql("select * from storage.objects")
        w.nothing_of_alice(seen)
        assert len(seen) == (5 if who == w.mallory else 0)
        assert w.remove(f"{w.alice}/ledger-of-alice.txt") == []
    w.be(w.alice)
    assert w.search("zanzibar")


@attack
def a_stranger_overwrites_anothers_file(w: World) -> None:
    """A stranger puts other bytes in the place of another's file, by update and by upsert: no row changes."""
    name = f"{w.alice}/ledger-of-alice.txt"
    w.be(w.mallory)
    assert w.sql("update storage.objects set version = 'x' where name = %s returning 1", name) == []
    with w.refused(match="row-level security"):
        w.sql(
            "insert into storage.objects (bucket_id, name, owner_id, version) values ('documents', %s, %s, 'x') "
            "on conflict (bucket_id, name) do update set version = excluded.version",
            name,
            str(w.mallory),
        )


@attack
def a_stranger_moves_files_across_folders(w: World) -> None:
    """A file is moved out of another's folder to be read, or into it to be found there: neither happens. A copy reads
    the source first, and sees none."""
    w.be(w.mallory)
    theirs, own = f"{w.alice}/ledger-of-alice.txt", f"{w.mallory}/own.txt"
    move = "update storage.objects set name = %s, version = gen_random_uuid()::text where name = %s returning 1"
    assert w.sql(move, f"{w.mallory}/stolen.txt", theirs) == []
    with w.refused(match="row-level security"):
        w.sql(move, f"{w.alice}/planted.txt", own)
    assert w.sql("select 1 from storage.objects where name = %s", theirs) == []
    w.be("postgres")
    w.sql("insert into storage.buckets (id, name) values ('open', 'open')")
    w.sql(
        "create policy open on storage.objects for all to authenticated using (bucket_id = 'open') with check "
        "(bucket_id = 'open')"
    )
    w.be(w.mallory)
    w.sql("insert into storage.objects (bucket_id, name, version) values ('open', 'bait.txt', '2')")
    with w.refused(match="row-level security"):
        w.sql(
            "update storage.objects set bucket_id = 'documents', name = %s where name = 'bait.txt'",
            f"{w.alice}/bait.txt",
        )


@attack
def a_path_leads_into_anothers_folder(w: World) -> None:
    """Names that a server, a proxy or a client may fold into another's folder are not stored, nor names in none."""
    w.be(w.mallory)
    for name in (
        f"{w.mallory}/../{w.alice}/x.txt",
        f"{w.mallory}/./x.txt",
        f"{w.mallory}/..",
        f"{w.mallory}/a/../../{w.alice}/x.txt",
        f"{w.mallory}/.",
    ):
        for version in ("1", None):
            with w.refused(match='called "." or ".."'):
                w.write(name, version=version, owner=w.mallory)
    for name in (
        f"../{w.alice}/x.txt",
        f"./{w.alice}/x.txt",
        f"/{w.alice}/x.txt",
        str(w.mallory),
        str(w.alice),
        f" {w.mallory}/x.txt",
        f"{w.alice}%2fx.txt",
        f"{w.mallory}%2f..%2f{w.alice}/x.txt",
        "x.txt",
        str(w.mallory).upper() + "/x.txt",
    ):
        with w.refused(match="row-level security"):
            w.write(name, owner=w.mallory)


@attack
def a_file_is_left_that_belongs_to_nobody(w: World) -> None:
    """Whoever has the service key stores a file in no user's folder, so that no rule knows its owner: refused."""
    w.be("service_role")
    for name in (
        f"{w.alice}",
        "x.txt",
        "shared/x.txt",
        "00000000-0000-4000-8000-00000000dead/x.txt",
        f"{w.alice}x/x.txt",
    ):
        with w.refused(match="belong to a user"):
            w.write(name)
    w.write(f"{w.alice}/.emptyFolderPlaceholder")
    assert w.sql("select 1 from public.documents where name like '%%Placeholder'") == []


@attack
def a_policy_that_is_added_later_opens_the_bucket(w: World) -> None:
    """A project adds a policy that is too wide, such as examples have: it opens its other buckets, and not ours."""
    w.be("postgres")
    w.sql(OPEN)
    w.sql("insert into storage.buckets (id, name) values ('open', 'open')")
    for who in (w.mallory, "anon"):
        w.be(who)
        w.nothing_of_alice(w.sql("select * from storage.objects"))
        for version in ("1", None):
            with w.refused(match="row-level security"):
                w.write(f"{w.alice}/planted.txt", version=version)
        assert w.remove(f"{w.alice}/ledger-of-alice.txt") == []
        assert w.sql("update storage.objects set version = 'x' where name like %s returning 1", f"{w.alice}/%") == []
        with w.works():
            w.sql("insert into storage.objects (bucket_id, name, version) values ('open', %s, '2')", f"by {who}.txt")
        assert w.sql("select 1 from storage.objects where bucket_id = 'open'"), "other buckets are not ours to close"
        if who == "anon":
            assert w.sql("select 1 from storage.objects where bucket_id = 'documents'") == []
            with w.refused(match="row-level security"):
                w.write("anywhere/x.txt")
        with w.refused(match="row-level security"):
            w.sql(
                "update storage.objects set bucket_id = 'documents', name = %s where bucket_id = 'open' and name = %s",
                f"{w.alice}/planted.txt",
                f"by {who}.txt",
            )


@attack
def the_door_holds_without_the_wall(w: World) -> None:
    """The restrictive policies are gone; what each client was given must be narrow by itself: in this bucket, in her
    own folder, for a statement with no condition too, and no other bucket is opened along with it."""
    w.be("postgres")
    for policy in w.sql(
        "select polname from pg_policy where polrelid = 'storage.objects'::regclass and not polpermissive"
    ):
        w.sql(f'drop policy "{policy["polname"]}" on storage.objects')
    w.sql("insert into storage.buckets (id, name) values ('other', 'other')")
    w.sql("insert into storage.objects (bucket_id, name, version) values ('other', %s, '2')", f"{w.mallory}/there.txt")
    for stranger in (
        a_stranger_uploads_into_anothers_folder,
        somebody_who_did_not_sign_in_uploads,
        a_stranger_overwrites_anothers_file,
        a_stranger_reads_lists_and_removes_anothers_files,
        a_stranger_moves_files_across_folders,
        an_owner_keeps_files,
    ):
        with w.aside():
            stranger(w)
    w.be(w.mallory)
    with w.refused(match="row-level security"):
        w.sql("insert into storage.objects (bucket_id, name, version) values ('other', %s, '2')", f"{w.mallory}/x.txt")
    with w.refused(match="row-level security"):
        w.sql("update storage.objects set name = %s || gen_random_uuid()", f"{w.alice}/")
    with w.refused(match="row-level security"):
        w.sql("update storage.objects set bucket_id = 'other'")
    with w.aside(), w.works():
        assert w.count("update storage.objects set version = gen_random_uuid()::text") == 5
    w.sql("select set_config('storage.allow_delete_query', 'true', true)")
    assert w.count("delete from storage.objects") == 5


@attack
def the_bucket_is_opened_or_widened(w: World) -> None:
    """A client makes the bucket public, or lifts its size limit: buckets are not the client's, and ours is private."""
    for who in (w.mallory, "anon"):
        w.be(who)
        assert w.sql("select 1 from storage.buckets") == []
        assert w.sql("update storage.buckets set public = true, file_size_limit = null returning 1") == []
        with w.refused():
            w.sql("insert into storage.buckets (id, name, public) values ('mine', 'mine', true)")
    w.be("postgres")
    assert w.sql("select public, file_size_limit from storage.buckets where id = 'documents'") == [
        {"public": False, "file_size_limit": 26214400}
    ]


@attack
def a_user_stores_more_than_her_quota(w: World) -> None:
    """A user uploads more files a day, larger ones, more of them or more bytes than she may, also past the permission
    check and under another's name: each is refused, and counts for the owner of the folder and for nobody else."""
    w.be("postgres")
    others = "select owner_id, uploads, files, bytes from pipeline.upload_days where owner_id <> %s order by owner_id"
    before = w.sql(others, w.mallory)
    w.sql(
        "insert into pipeline.limits (owner_id, uploads_per_day, max_file_bytes, max_documents, max_stored_bytes) "
        "values (%s, 7, 1000, 6, 1800)",
        w.mallory,
    )
    w.be("service_role")  # the write that stays
    with w.refused(match="This file has"):
        w.write(f"{w.mallory}/large.txt", owner=w.mallory, size=1001)
    with w.works():
        w.write(f"{w.mallory}/one.txt", owner=w.mallory, size=1000)
    with w.refused(match="6 files already"):
        w.write(f"{w.mallory}/two.txt", owner=w.alice, size=1)
    w.be(w.mallory)
    w.remove(f"{w.mallory}/one.txt")
    with w.works():
        with w.aside():
            w.write(f"{w.mallory}/one.txt", version="1", owner=w.mallory)
        w.be("service_role")
        w.write(f"{w.mallory}/one.txt", owner=w.mallory, size=1000)
    w.be("postgres")
    assert w.sql(others, w.mallory) == before
    w.sql("update pipeline.limits set max_documents = 100, uploads_per_day = 8 where owner_id = %s", w.mallory)
    w.be("service_role")
    with w.refused(match="together"):
        w.write(f"{w.mallory}/two.txt", owner=w.mallory, size=1000)
    w.write(f"{w.mallory}/two.txt", owner=w.mallory, size=1)
    with w.refused(match="limit of uploads for today (8)"):
        w.write(f"{w.mallory}/three.txt", owner=w.alice, size=1)
    w.be(w.mallory)
    with w.refused(match="limit of uploads for today (8)"):
        w.write(f"{w.mallory}/three.txt", version="1", owner=w.mallory)
    w.be(w.alice)
    w.write(f"{w.alice}/three.txt", version="1", owner=w.alice)


@attack
def a_file_takes_its_text_to_another_owner(w: World) -> None:
    """The service moves a file into another user's folder: her document ends, and what was read of it stays behind."""
    w.be("service_role")
    w.sql(
        "update storage.objects set name = %s, version = gen_random_uuid()::text where name = %s",
        f"{w.mallory}/moved.txt",
        f"{w.alice}/ledger-of-alice.txt",
    )
    w.be(w.mallory)
    assert w.value("select count(*) from public.documents where name like '%%moved.txt'") == 1
    w.nothing_of_alice(w.sql("select * from public.chunks"))
    w.nothing_of_alice(w.search("zanzibar"))
    w.be(w.alice)
    assert w.search("zanzibar") == []
