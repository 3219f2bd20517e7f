# What CI runs.
check:
    scripts/check

# Long simulation: just sim 20000
sim seeds="2000":
    cargo run --release -p gigfs-sim -- --seeds {{seeds}}
