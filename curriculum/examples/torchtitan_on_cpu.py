"""Lets torchtitan 0.3 run on a machine without an accelerator, and on torch 2.13; import it before torchtitan.

Not needed on GPUs with torch 2.14 or later: leave it out there. What it answers, each found by running into it:

- torchtitan takes "cuda" where torch finds no accelerator (tools/utils.py), and asks it for its name and memory;
- FSDP's divided sums are NCCL's (`ReduceOp.PREMUL_SUM`): gloo adds up plain ones, and torchtitan's divisor is 1;
- torchtitan 0.3.0 calls `torch.distributed.set_timeout`, which is private in torch 2.13.
"""

from types import SimpleNamespace

import torch
from torch.distributed import distributed_c10d
from torch.distributed.fsdp import FSDPModule

if not hasattr(torch.distributed, "set_timeout"):
    torch.distributed.set_timeout = distributed_c10d._set_pg_timeout

if not torch.accelerator.is_available():
    torch._utils._get_available_device_type = lambda: "cpu"
    torch.cpu.current_device = lambda: 0
    torch.cpu.get_device_name = lambda device: "CPU"
    torch.cpu.get_device_properties = lambda device: SimpleNamespace(total_memory=1)
    torch.cpu.memory_stats = lambda device: {}
    torch.cpu.reset_peak_memory_stats = torch.cpu.empty_cache = lambda: None

    set_divide_factor = FSDPModule.set_gradient_divide_factor

    def set_factor_and_sum(self, factor):
        set_divide_factor(self, factor)
        self.set_force_sum_reduction_for_comms(True)

    FSDPModule.set_gradient_divide_factor = set_factor_and_sum
