from benchmarks.install_size import LIMIT_MB, judge, sizes


def test_folders_and_files_are_counted_and_links_are_not(tmp_path):
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "inner" / "weights.bin").write_bytes(b"x" * 1000)
    (tmp_path / "package" / "link.bin").symlink_to(tmp_path / "package" / "inner" / "weights.bin")
    (tmp_path / "module.py").write_bytes(b"x" * 10)
    assert sizes(tmp_path) == {"package": 1000, "module.py": 10}


def test_the_limit_and_torch_each_fail_the_check():
    fits = int(LIMIT_MB * 1e6) - 1
    assert judge({"numpy": fits})["ok"]
    assert not judge({"numpy": fits, "rich": 1})["ok"]
    with_torch = judge({"torch": 1})
    assert not with_torch["ok"]
    assert with_torch["unwanted"] == ["torch"]
