"""``undertow train`` under torchrun."""

from torch.distributed.run import get_args_parser

from undertow.app import cli


def long_options(command):
    return {
        name for each in command.params for name in (*each.opts, *each.secondary_opts) if name[:2] == "--"
    }


def test_no_option_is_the_beginning_of_one_of_torchruns():
    """argparse refuses such an option as ambiguous, although it stands behind the program."""
    torchruns = [name for action in get_args_parser()._actions for name in action.option_strings]
    ours = long_options(cli.load("train"))
    assert {"--folder", "--resume"} <= ours
    assert not [(one, other) for one in sorted(ours) for other in torchruns if other.startswith(one)]
    assert [other for other in torchruns if other.startswith("--log")]  # --log is no name for an option here
