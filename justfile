# What CI runs, and then `scripts/fuzz 4`.
check:
    scripts/check

# Every decoder of bytes from a peer or a disk, against arbitrary bytes, with a nightly toolchain: just fuzz 120 text
fuzz seconds="10" *targets:
    scripts/fuzz {{seconds}} {{targets}}

# Long simulation: just sim 20000
sim seeds="2000":
    cargo run --release -p gigfs-sim -- --seeds {{seeds}}

# Real clients and servers over wires that are held, cut and partitioned: just wire 50
wire seeds="20":
    cargo run --release -p gigfs-sim --bin wire -- --seeds {{seeds}}

# The rule of pruning alone, searched exhaustively; some minutes.
model:
    cargo run --release -p gigfs-sim --bin model

# How fast this is beside Redis, etcd, NATS and GiG.fs, in one run; some minutes: just bench-peers --short
bench-peers *options:
    scripts/bench-peers {{options}}

# The power is cut 200 times under a store, a table and a device; takes root, loop devices, mkfs.ext4 and perl.
cuts:
    cargo test -p gigfs-cli --test gig -- --ignored --nocapture after_200_cuts

# A store is killed 1,000 times under load.
kills:
    cargo test -p gigfs-cli --test gig -- --ignored --nocapture killed_a_thousand_times

# Every file of a store's data, damaged in every way and place; some minutes.
damage:
    cargo test -p gigfs-storage --test engines damage_to_every_file -- --ignored
