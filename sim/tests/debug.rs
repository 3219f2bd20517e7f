use gigfs_sim::*;
#[test]
fn debug() {
    let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let script = Script::of(seed, 250).shrink(3000);
    let mut world = World::new(script.spec.clone());
    for step in &script.steps {
        println!("{step:?}");
        world.take(*step);
        world.dump();
    }
    world.heal_all();
    println!("healed");
    println!("{:?}", world.converged());
    world.dump();
}
