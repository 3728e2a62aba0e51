"""sb3-contrib: RecurrentPPO balances CartPole without seeing velocities, as in its own long test."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit, TransformObservation
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env

from client import SEED, main

STEPS = 10_240


def without_velocity() -> gym.Env[Any, Any]:
    seen = np.array([1, 0, 1, 0], dtype=np.float32)
    env = TimeLimit(CartPoleEnv(), max_episode_steps=500)
    return TransformObservation(env, lambda observation: observation * seen, env.observation_space)


def train(_: None) -> dict[str, Any]:
    model = RecurrentPPO(
        "MlpLstmPolicy",
        make_vec_env(without_velocity, n_envs=8),
        n_steps=128,
        learning_rate=0.0007,
        batch_size=256,
        seed=SEED,
        max_grad_norm=1,
        gae_lambda=0.98,
        policy_kwargs={
            "net_arch": {"vf": [64], "pi": []},
            "lstm_hidden_size": 64,
            "ortho_init": False,
            "enable_critic_lstm": True,
        },
    )
    model.learn(STEPS)
    return {
        "weights": torch.cat([p.detach().ravel() for p in model.policy.parameters()]),
        "last 100 episodes' lengths": [episode["l"] for episode in model.ep_info_buffer],
    }


main("sb3-contrib", f"RecurrentPPO, CartPole without velocity, {STEPS:,} steps", lambda: None, train)
