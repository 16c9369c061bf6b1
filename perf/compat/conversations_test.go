package compat

import (
	"flag"
	"os"
	"testing"
)

// Numbers of topics: conversations count by one, rounds and replays by these.
const (
	roundStep  = 1000
	replayStep = 1000000
)

// TestMain raises the number of conversations at work at once: nearly all of
// them only wait. It removes the binary that findPeer may have built
// and the certificate of makeIdentity.
func TestMain(m *testing.M) {
	flag.Parse()
	parallelSet := false
	flag.Visit(func(f *flag.Flag) { parallelSet = parallelSet || f.Name == "test.parallel" })
	if !parallelSet {
		if err := flag.Set("test.parallel", "64"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	for _, dir := range []string{buildDir, lookupdDir, identityDir} {
		if err := os.RemoveAll(dir); err != nil {
			panic(err)
		}
	}
	os.Exit(code)
}

// TestConversations plays every conversation with the peer, each in both modes.
func TestConversations(t *testing.T) {
	t.Parallel()
	all, err := loadConversations()
	if err != nil {
		t.Fatal(err)
	}
	p := findPeer(t)
	daemons := newPool(t, p)
	still := watchStandstill(t)
	for _, mode := range []string{"whole", "bytewise"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			byFile := map[string][]int{}
			var files []string
			for i, c := range all {
				if byFile[c.file] == nil {
					files = append(files, c.file)
				}
				byFile[c.file] = append(byFile[c.file], i)
			}
			for _, file := range files {
				t.Run(file, func(t *testing.T) {
					t.Parallel()
					for _, i := range byFile[file] {
						runConversation(t, daemons, still, all[i], mode == "bytewise", i)
					}
				})
			}
		})
	}
}

func runConversation(t *testing.T, daemons *pool, still *standstill, c *conversation, bytewise bool, number int) {
	t.Run(c.name(), func(t *testing.T) {
		if c.slow != "" && testing.Short() {
			t.Skip(c.slow)
		}
		t.Parallel()
		for round := range c.repeat {
			runRound(t, daemons, still, c, bytewise, number+round*roundStep)
		}
	})
}

// runRound plays a conversation once, and again where a failure proves nothing.
func runRound(t *testing.T, daemons *pool, still *standstill, c *conversation, bytewise bool, number int) {
	t.Helper()
	for replay := 0; ; replay++ {
		d, err := daemonFor(t, daemons, c)
		if err != nil {
			t.Fatal(err)
		}
		play := newPlayer(c, d, daemons.peer, bytewise, number+replay*replayStep)
		if err = play.play(); err == nil {
			return
		}
		excuse := still.excuse(play, replay)
		if excuse == "" {
			t.Fatal(err)
		}
		t.Logf("played again, %s: %v", excuse, err)
	}
}

// daemonFor is the daemon a conversation runs against: a shared one, or one of
// its own that is gone afterwards.
func daemonFor(t *testing.T, daemons *pool, c *conversation) (*daemon, error) {
	if !c.own {
		return daemons.shared(c.group, c.flags)
	}
	return ownDaemon(t, daemons.peer, c.flags...), nil
}
