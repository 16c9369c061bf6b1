// Command crash proves that SIGKILL loses nothing: it kills nsqd under load, again and again, and lets the ledger decide.
//
//	go run ./perf/crash -n 20 [-nsqd PATH | -race] [-seed N] [-defer] [-sigterm 10]
//	go run ./perf/crash -mutants
//
// One round starts nsqd on the data path the last one left, loads it for 50 to 1500 ms with publishers (PUB, MPUB, DPUB) and with consumers of
// several channels which finish, hold, requeue with and without a delay, touch and hang up, and sends SIGKILL in the middle of it. Every
// -drain rounds, and at the end, consumers take everything there is, and then
//
//   - no acknowledged message may be missing in any channel, whether it was never delivered, held, requeued or deferred at the kill;
//   - no message may come again whose FIN was followed, on the same connection, by a PUB that was answered OK (or by a CLS);
//   - and every other class of package ledger that is a fault counts as one here.
//
// The daemon must also start each time, listen within 30 s, and not end unless it is told to: a panic, a data race (-race) or a refusal to
// start fails the run. Every random choice comes from the seed, which a failure prints as a command line; what the scheduler of the machine
// adds does not, so a failure may need several runs to come back.
//
// With -mutants the rig is tested itself: nsqd is built with the tag "mutants" and runs with one planted fault at a time, each of which the
// ledger must find.
package main
