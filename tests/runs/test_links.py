"""Links that lead out of a folder."""

from pathlib import Path

from nearer.runs.links import leads_out


def test_leads_out_of_files_and_links_within_is_false(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    assert not leads_out(tmp_path / "file", tmp_path)
    assert not leads_out(tmp_path / "link", tmp_path)
    assert not leads_out(tmp_path / "missing", tmp_path)
    alias = tmp_path.with_name(tmp_path.name + "-alias")
    alias.symlink_to(tmp_path)
    assert not leads_out(alias / "file", alias)


def test_leads_out_of_links_and_names_to_elsewhere_is_true(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "link").symlink_to("/etc/hosts")
    (run / "circle").symlink_to(run / "circle")
    (run / "folder").symlink_to(tmp_path)
    for name in ("link", "circle", "folder/other", "../other", "/etc/hosts"):
        assert leads_out(run / name, run), name


def test_leads_out_of_the_hubs_blobs_is_false(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots/0123"
    (tmp_path / "blobs").mkdir()
    (snapshot / "reward").mkdir(parents=True)
    (tmp_path / "blobs/abc").write_text("")
    (snapshot / "reward/config.json").symlink_to("../../../blobs/abc")
    (snapshot / "secret").symlink_to("../../../secret")
    assert not leads_out(snapshot / "reward/config.json", snapshot)
    assert not leads_out(snapshot / "reward/config.json", snapshot / "reward")
    assert leads_out(snapshot / "secret", snapshot)
