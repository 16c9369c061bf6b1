package httpapi

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
	"github.com/stretchr/testify/require"
)

// failingDisk is a disk whose plain files can no longer be synced once broken is set.
type failingDisk struct {
	*mmapq.HeapDisk
	broken atomic.Bool
}

type failingFile struct {
	mmapq.File
	disk *failingDisk
}

var errPlanted = errors.New("sync x.manifest: input/output error")

func (d *failingDisk) OpenFile(name string, create bool) (mmapq.File, error) {
	f, err := d.HeapDisk.OpenFile(name, create)
	return &failingFile{f, d}, err
}

func (f *failingFile) Sync() error {
	if f.disk.broken.Load() {
		return errPlanted
	}
	return f.File.Sync()
}

// rows: h4.1#nok h4.3#10 h6#8
func TestFailedDisk(t *testing.T) {
	disk := &failingDisk{HeapDisk: mmapq.NewHeapDisk()}
	listener, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	broker, err := fanout.Open(disk, mmapq.Options{Sync: mmapq.SyncAlways}, fanout.Options{})
	require.NoError(t, err)
	log := &memoryLog{}
	s := New(listener, Options{Broker: broker, Log: log, Clients: func() Connections { return clientList{} }, MaxMsgSize: 100, MaxBodySize: 1000})
	s.Start()
	t.Cleanup(func() {
		require.NoError(t, s.Stop())
		broker.Abandon()
	})
	f := &fixture{addr: listener.Addr().String(), network: "tcp"}
	require.Equal(t, 200, f.call(t, "POST", "/pub?topic=t", "x").status)

	disk.broken.Store(true)
	for _, target := range []string{"/pub?topic=new", "/mpub?topic=new2", "/topic/create?topic=new3"} {
		got := f.call(t, "POST", target, "x")
		require.Equal(t, 503, got.status, target)
		require.Equal(t, `{"message":"EXITING"}`, got.body)
	}
	got := f.call(t, "GET", "/ping", "")
	require.Equal(t, 500, got.status)
	require.Contains(t, got.body, "NOK - ")
	require.Contains(t, got.body, errPlanted.Error())
	require.Empty(t, got.header.Get(nsqHeader))
	require.Equal(t, textType, got.header.Get("Content-Type"))
	require.Contains(t, f.call(t, "GET", "/stats?format=json", "").body, `"health":"NOK - `)
	require.NotEmpty(t, log.with("INFO 500 GET /ping "))
	require.NotEmpty(t, log.with(errPlanted.Error()))
}
