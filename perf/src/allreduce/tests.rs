//! Whole runs over loopback: right ones, one that is made wrong, and ranks that are not there.

use super::*;

fn job(collective: Collective, algorithm: Algorithm, ranks: usize) -> Job {
    Job {
        rank: 0,
        setup: Setup {
            contestant: None,
            collective,
            algorithm,
            ranks,
            iterations: 3,
            warmup: 1,
            compute_us: 200,
            compute_jitter_us: 100,
            compute_spins: false,
            seed: 1,
        },
        // Less than an element for each rank, what does not divide, and more than sockets buffer.
        sizes: vec![8, 40_004, 4 << 20],
        timeout: Duration::from_secs(10),
        limit: Duration::from_secs(60),
    }
}

#[test]
fn every_collective_gives_every_rank_the_right_result() {
    let all = [
        (Collective::AllReduce, Algorithm::Ring),
        (Collective::AllReduce, Algorithm::Tree),
        (Collective::AllReduce, Algorithm::HalvingDoubling),
        (Collective::AllGather, Algorithm::Ring),
        (Collective::ReduceScatter, Algorithm::Ring),
        (Collective::AllToAll, Algorithm::Pairwise),
        (Collective::Broadcast, Algorithm::Ring),
        (Collective::Broadcast, Algorithm::Tree),
    ];
    for (collective, algorithm) in all {
        let results = run_all(&job(collective, algorithm, 5)).expect("all ranks do their part");
        assert!(
            results.iter().all(|result| result.wrong == 0),
            "{collective:?} {algorithm:?}"
        );
        assert!(
            results
                .iter()
                .all(|result| result.sizes[2].steps.count() > 0)
        );
        for size in results.iter().flat_map(|result| &result.sizes) {
            assert!(size.compute_ns.iter().all(|&ns| ns >= 100_000));
            assert_eq!(size.iterations_ns.len(), 3);
        }
        let report = Report::of(results).expect("one run");
        assert_eq!(report.wrong, 0);
    }
}

/// Two ranks, of which the second one's buffer goes through `hook`.
fn two_ranks(
    job: &Job,
    hook: impl FnMut(usize, &mut [u8]) + Send,
) -> [Result<RankResult, Failure>; 2] {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (first, second) = (listener(), listener());
    let address = |listener: &TcpListener| listener.local_addr().expect("its address");
    let addresses = [address(&first), address(&second)];
    let (other, mut hook) = (
        Job {
            rank: 1,
            ..job.clone()
        },
        hook,
    );
    thread::scope(|scope| {
        let second = scope.spawn(move || other.run(&second, &addresses, &mut hook));
        let first = job.run(&first, &addresses, &mut |_, _| {});
        [first, join(second)]
    })
}

#[test]
fn a_wrong_sum_is_counted_and_fails_the_run() {
    let job = job(Collective::AllReduce, Algorithm::Ring, 2);
    let results = two_ranks(&job, |iteration, buffer| {
        if iteration == 2 {
            buffer[4] ^= 1;
        }
    });
    let results: Result<Vec<RankResult>, Failure> = results.into_iter().collect();
    let results = results.expect("both do their part");
    assert_eq!(
        results
            .iter()
            .map(|result| result.wrong)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    let said = finish(results, None)
        .expect_err("an element is wrong")
        .to_string();
    assert!(said.contains("1 elements"), "{said}");
}

#[test]
fn a_rank_that_dies_is_named() {
    let job = job(Collective::AllReduce, Algorithm::Ring, 2);
    // A panic ends the rank's thread, and its connections with it.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let dying = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addresses = [&listener, &dying].map(|one| one.local_addr().expect("its address"));
    let other = Job {
        rank: 1,
        ..job.clone()
    };
    let rank = thread::spawn(move || {
        let mut die = |iteration, _: &mut [u8]| assert!(iteration < 2, "it dies, as it should");
        other.run(&dying, &addresses, &mut die).is_ok()
    });
    let said = job.run(&listener, &addresses, &mut |_, _| {});
    let said = said.expect_err("the other died").to_string();
    assert!(rank.join().is_err());
    assert!(
        said.starts_with("rank 0: 8 octets, iteration 2: "),
        "{said}"
    );
    assert!(said.contains("rank 1"), "{said}");
}

#[test]
fn a_rank_that_hangs_or_never_comes_is_named() {
    let mut job = job(Collective::AllReduce, Algorithm::Ring, 2);
    job.timeout = Duration::from_millis(600);
    let hangs = |_, _: &mut [u8]| thread::sleep(Duration::from_millis(1800));
    let [first, _] = two_ranks(&job, hangs);
    let said = first.expect_err("the other hangs").to_string();
    assert!(
        said.contains("rank 1 did not answer: nothing moved for 0.6 s"),
        "{said}"
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let alone = |rank, addresses: [SocketAddr; 2]| {
        let job = Job {
            rank,
            ..job.clone()
        };
        let said = job.run(&listener, &addresses, &mut |_, _| {});
        said.expect_err("nobody else is there").to_string()
    };
    let said = alone(0, [address, nobody]);
    assert!(
        said.contains("rank 1 did not connect within 0.6 s"),
        "{said}"
    );
    let said = alone(1, [nobody, address]);
    assert!(
        said.contains("rank 0 at 127.0.0.1:9 did not answer"),
        "{said}"
    );
}

#[test]
fn ranks_of_other_arguments_are_told_so() {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (first, second) = (listener(), listener());
    let addresses = [&first, &second].map(|one| one.local_addr().expect("its address"));
    let job = job(Collective::AllReduce, Algorithm::Ring, 2);
    let mut other = Job {
        rank: 1,
        ..job.clone()
    };
    other.setup.seed = 2;
    let results = thread::scope(|scope| {
        let second = scope.spawn(|| other.run(&second, &addresses, &mut |_, _| {}));
        [job.run(&first, &addresses, &mut |_, _| {}), join(second)]
    });
    for (result, peer) in results.into_iter().zip([1, 0]) {
        let said = result.expect_err("they do not agree").to_string();
        assert!(
            said.contains(&format!("rank {peer} was started with other arguments")),
            "{said}"
        );
    }
}

#[test]
fn sizes_and_addresses_as_they_are_typed() {
    assert_eq!(parse_size("64K"), Ok(65_536));
    assert!(parse_size("6").is_err() && parse_size("0").is_err() && parse_size("8G").is_err());
    assert_eq!(parse_compute("500:100"), Ok((500, 100)));
    assert_eq!(parse_compute("500"), Ok((500, 0)));
    assert!(parse_compute("5:6").is_err() && parse_compute("x").is_err());
    let list = read_addresses("10.0.0.1, 10.0.0.2:7", 5).expect("addresses");
    let expected: [SocketAddr; 2] = ["10.0.0.1:5", "10.0.0.2:7"].map(|a| a.parse().expect("one"));
    assert_eq!(list, expected);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "10.0.0.1\n10.0.0.2:7\n").expect("written");
    let name = file.path().to_string_lossy();
    assert_eq!(read_addresses(&name, 5).expect("addresses"), expected);
    let said = read_addresses("nowhere", 5)
        .expect_err("no file, no address")
        .to_string();
    assert!(said.contains("`nowhere`"), "{said}");
}
