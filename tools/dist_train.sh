#!/usr/bin/env bash
# Train in N processes of this machine: tools/dist_train.sh CONFIG N [arguments of tools/train.py]
# More machines: NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT from the environment.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: tools/dist_train.sh CONFIG N [arguments of tools/train.py]" >&2
  exit 2
fi
config=$1
processes=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
