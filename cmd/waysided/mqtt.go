package main

import (
	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/connect/mqtt"
	"github.com/waysideos/wayside/services/site"
)

// mqttSockets names what a socket unit hands over.
var mqttSockets = []string{"mqtt"}

type mqttFlags struct {
	common
	broker          []string
	listen, secrets string
}

func newMQTTCmd(env environment) *cobra.Command {
	var f mqttFlags
	cmd := &cobra.Command{
		Use:   "mqtt",
		Short: "The MQTT connector of the box",
		Long: `mqtt is an MQTT broker whose messages become Kafka records. A device hears
"acknowledged" only after the Kafka broker has said so. Sessions, retained
messages and the like are in the Kafka topic "` + mqtt.StateTopic + `". Without a profile every
message goes to the topic "` + site.DefaultMQTTTopic + `".`,
		Example: `  waysided mqtt --listen 127.0.0.1:1883
  waysided mqtt --site shop.yaml --broker 127.0.0.1:9092
  waysided mqtt --site shop.yaml --secrets ./secrets --broker 127.0.0.1:9092`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runMQTT(cmd, env, f) },
	}
	f.bind(cmd, "")
	bindBroker(cmd, &f.broker)
	cmd.Flags().StringVar(&f.secrets, "secrets", env.credentialsDir, "folder `DIR` of the files that the profile names: certificates, keys, users")
	cmd.Flags().StringVar(&f.listen, "listen", "", "`HOST:PORT` for devices (default: the profile's)")
	return cmd
}

func runMQTT(cmd *cobra.Command, env environment, f mqttFlags) error {
	profile, err := f.profile()
	if err != nil {
		return err
	}
	log, reg := env.logger("mqtt"), newRegistry()
	routes := profile.Connect.MQTT
	if routes == nil {
		return runIdleMQTT(cmd, options{
			env: env, log: log, registry: reg, status: env.statusSocket("mqtt", f.runDir),
		})
	}
	socks, err := listen(mqttSockets, or(f.listen, routes.Listen), log)
	if err != nil {
		return err
	}
	listener, err := socks.one()
	if err != nil {
		return err
	}
	c, err := mqtt.New(mqtt.Config{
		Listener:   listener,
		Listeners:  routes.Listeners,
		Users:      routes.Users,
		Anonymous:  routes.Anonymous,
		ACL:        routes.ACL,
		Secrets:    f.secrets,
		Routes:     routes.Routes,
		Publish:    routes.Publish,
		Broker:     boxBroker(f.broker, profile),
		Registerer: reg,
		Log:        log,
	})
	if err != nil {
		socks.close()
		return err
	}
	return runService(cmd.Context(), "mqtt", c, options{
		env: env, log: log, registry: reg, announce: socks.announce(),
		status: env.statusSocket("mqtt", f.runDir),
	})
}

// runIdleMQTT stands in on a box whose profile has no MQTT: the unit is there
// all the same.
func runIdleMQTT(cmd *cobra.Command, opts options) error {
	given, err := inherited(mqttSockets, opts.log)
	if err != nil {
		return err
	}
	return runService(cmd.Context(), "mqtt", newIdle("mqtt", "not in use: the profile has no MQTT routes", given), opts)
}
