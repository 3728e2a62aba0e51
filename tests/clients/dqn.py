"""torchrl: a recurrent Q-network learns CartPole without velocities, after its tutorial on recurrent DQN."""

from typing import Any

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import Compose, GymEnv, InitTracker, ObservationTransform, StepCounter, TransformedEnv
from torchrl.modules import MLP, EGreedyModule, LSTMModule, QValueModule, set_recurrent_mode
from torchrl.objectives import DQNLoss, SoftUpdate

from client import SEED, main

FRAMES, PER_BATCH, UPDATES, H = 3000, 50, 4, 128


class WithoutVelocity(ObservationTransform):
    """CartPole whose two velocities are always zero."""

    def _apply_transform(self, observation: torch.Tensor) -> torch.Tensor:
        return observation * torch.tensor([1.0, 0.0, 1.0, 0.0])

    def _reset(self, _: Any, reset: Any) -> Any:
        return self._call(reset)


def train(_: None) -> dict[str, Any]:
    lstm = LSTMModule(input_size=64, hidden_size=H, device="cpu", in_key="embed", out_key="embed")
    masked = WithoutVelocity(in_keys=["observation"], out_keys=["observation"])
    transforms = Compose(masked, StepCounter(), InitTracker(), lstm.make_tensordict_primer())
    env = TransformedEnv(GymEnv("CartPole-v1"), transforms)
    env.set_seed(SEED)
    torch.manual_seed(SEED)
    embed = TensorDictModule(MLP(4, 64, num_cells=[64]), in_keys=["observation"], out_keys=["embed"])
    head = TensorDictModule(MLP(H, 2, num_cells=[64]), in_keys=["embed"], out_keys=["action_value"])
    policy = TensorDictSequential(embed, lstm, head, QValueModule(spec=env.action_spec))
    explore = EGreedyModule(annealing_num_steps=FRAMES, spec=env.action_spec, eps_init=0.2)
    policy(env.reset())
    loss_module = DQNLoss(policy, action_space=env.action_spec, delay_value=True)
    target = SoftUpdate(loss_module, eps=0.95)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(200), batch_size=4, prefetch=0)
    collector = Collector(
        env, TensorDictSequential(policy, explore), frames_per_batch=PER_BATCH, total_frames=FRAMES
    )
    losses, steps = [], []
    for data in collector:
        buffer.extend(data.unsqueeze(0).cpu())
        steps.append(data["next", "step_count"].max())
        for _update in range(UPDATES):
            with set_recurrent_mode(True):
                loss = loss_module(buffer.sample())["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        explore.step(data.numel())
        target.step()
        collector.update_policy_weights_()
    collector.shutdown()
    return {"losses": losses, "longest episodes": steps, "weights": flat(lstm)}


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in module.parameters()])


main(
    "torchrl", "LSTMModule of 128 units in a DQN, CartPole without velocity, 3,000 steps", lambda: None, train
)
