# shellcheck shell=bash
# Sourced before Python starts: flags of XLA that others found to help, none of which we
# have measured. They change no result but by rounding. Take the ones that help you.
#   source launch/xla_flags.sh tpu|gpu
# A flag that a version of JAX does not know ends the program with a line that names it.

case "${1:-}" in
  -h | --help)
    awk '/^# shellcheck/ { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"
    ;;
  tpu)
    # AI-Hypercomputer/maxtext, benchmarks/xla_flags_library.py: CF_FOR_ALL_GATHER (the
    # gathers of fsdp run beside the products that they feed) and DATA_PARALLEL_OVERLAP
    # (so do the sums of gradients over data).
    export LIBTPU_INIT_ARGS="${LIBTPU_INIT_ARGS:-} \
--xla_tpu_enable_async_collective_fusion=true \
--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true \
--xla_tpu_enable_async_collective_fusion_multiple_steps=true \
--xla_tpu_overlap_compute_collective_tc=true \
--xla_enable_async_all_gather=true \
--xla_tpu_enable_data_parallel_all_reduce_opt=true \
--xla_tpu_data_parallel_opt_different_sized_ops=true"
    ;;
  gpu)
    # docs.nvidia.com/jax-toolbox/environment-variables: what NVIDIA's own image of JAX
    # sets, so that collectives run beside kernels; and, from
    # docs.nvidia.com/jax-toolbox/performance-profiling/gpu-performance, the share of a
    # GPU's memory that XLA may take.
    export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_latency_hiding_scheduler=true"
    export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
    ;;
  *)
    echo "error: source launch/xla_flags.sh with tpu or gpu" >&2
    return 2
    ;;
esac
