package main

import (
	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/metadata"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// writeMetadata writes nsqd.dat as things are now. Ephemeral topics and channels do not stand in it.
func (d *daemon) writeMetadata() error {
	d.log.Infof("NSQ: persisting topic/channel metadata to %s", metadata.Path(d.o.DataPath))
	var topics []metadata.Topic
	for _, t := range d.broker.Topics() {
		if t.Ephemeral() {
			continue
		}
		topic := metadata.Topic{Name: t.Name(), Paused: t.Paused()}
		for _, ch := range t.Channels() {
			if !codec.IsEphemeral([]byte(ch.Name())) {
				topic.Channels = append(topic.Channels, metadata.Channel{Name: ch.Name(), Paused: ch.Paused()})
			}
		}
		topics = append(topics, topic)
	}
	return d.broker.WithSpare(func() error { return metadata.Write(d.o.DataPath, version.Number, topics) })
}

// recreate makes the topics and channels of a stock nsqd, paused where they were. Bad names are passed over with a warning.
func recreate(broker *fanout.Broker, topics []metadata.Topic, log *logging.Logger) error {
	for _, t := range topics {
		if !codec.ValidTopic([]byte(t.Name)) {
			log.Warnf("skipping creation of invalid topic %s", t.Name)
			continue
		}
		topic, err := broker.Topic([]byte(t.Name))
		if err != nil {
			return err
		}
		if t.Paused {
			if err := topic.SetPaused(true); err != nil {
				return err
			}
		}
		for _, c := range t.Channels {
			if !codec.ValidChannel([]byte(c.Name)) {
				log.Warnf("skipping creation of invalid channel %s", c.Name)
				continue
			}
			channel, err := topic.Channel([]byte(c.Name))
			if err != nil {
				return err
			}
			if c.Paused {
				if err := channel.SetPaused(true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
