#!/usr/bin/env bash
# Test in N processes of this machine: tools/dist_test.sh CONFIG CHECKPOINT N [arguments of tools/test.py]
# More machines: NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT from the environment.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: tools/dist_test.sh CONFIG CHECKPOINT N [arguments of tools/test.py]" >&2
  exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
