"""Reinforcement learning with memory: rollouts cut episodes anywhere; ``reset`` marks where one begins.

An agent sees a cue at an episode's first step and never again. When it is asked, 4 to 8 steps later, it must
repeat it. 32 episodes run at once. They are cut into rollouts of 16 steps, and end and begin inside them, as
with ``done`` of Gymnasium's vector environments, ``episode_starts`` of sb3 or ``is_init`` of TorchRL.

    python examples/rollouts.py [updates]

Prints how often the agent is right: half of the time at first, always in the end. Needs torch; a few
seconds.
"""

import sys

import torch
from torch.distributions import Categorical

import undertow

N, T, H = 32, 16, 32  # environments, steps of a rollout, units


class Cues:
    """N environments. ``observe`` -> [N,2]: the cue, 1 or -1, at the first step; 1 when it is asked for."""

    def __init__(self) -> None:
        self.t, self.end, self.cue = (torch.zeros(N, dtype=torch.long) for _ in range(3))
        self.begin(torch.ones(N, dtype=torch.bool))

    def begin(self, done: torch.Tensor) -> None:
        self.t[done] = 0
        self.end[done] = torch.randint(4, 9, (N,))[done]
        self.cue[done] = torch.randint(2, (N,))[done]

    def observe(self) -> torch.Tensor:
        return torch.stack(((self.t == 0) * (2 * self.cue - 1), self.t == self.end), dim=1).float()

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """-> reward [N], 1 or -1 for an answer and else 0, and done [N]; where done, the next one begins."""
        done = self.t == self.end
        reward = done * torch.where(action == self.cue, 1.0, -1.0)
        self.t += 1
        self.begin(done)
        return reward, done


def main(updates: int) -> float:
    torch.manual_seed(0)
    lstm, policy = undertow.LSTM(2, H), torch.nn.Linear(H, 2)
    optimizer = torch.optim.Adam([*lstm.parameters(), *policy.parameters()], 1e-2)
    envs, first = Cues(), torch.ones(N, dtype=torch.bool)
    carried, right = lstm.stateful(), 0.0
    for update in range(updates):
        start, seen = carried.state, []
        with torch.no_grad():  # act, a step at a time
            for _ in range(T):
                x = envs.observe()
                y, _ = carried(x[None], reset=first[None])
                action = Categorical(logits=policy(y[0])).sample()
                reward, done = envs.step(action)
                seen.append((x, first, action, reward))
                first = done
        xs, resets, actions, rewards = (torch.stack(each) for each in zip(*seen, strict=True))
        # learn, the whole rollout at once: from the state it began with, with the same resets
        y, _ = lstm(xs, start, reset=resets)
        loss = -(Categorical(logits=policy(y)).log_prob(actions) * rewards).mean()  # Williams 1992
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = (rewards[rewards != 0] > 0).float().mean().item()
        if update % 10 == 0 or update == updates - 1:
            print(f"update {update}: {right:.0%} right")
    return right


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
