package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/services/replicator"
	"github.com/waysideos/wayside/services/site"
)

// memoryGoal has the collector run more often before the service takes more: a
// backlog makes garbage as fast as it is carried, and a box has little memory.
const memoryGoal = 64 << 20

type replicatorFlags struct {
	common
	broker  []string
	secrets string
}

func newReplicatorCmd(env environment) *cobra.Command {
	var f replicatorFlags
	cmd := &cobra.Command{
		Use:   "replicator",
		Short: "Carries topics to the central Kafka and from it",
		Long: `replicator carries the topics of the profile's links between the box's broker
and a central Kafka: in order, exactly once, however often the uplink fails.`,
		Example: `  waysided replicator --site shop.yaml
  waysided replicator --site shop.yaml --broker 127.0.0.1:9092`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runReplicator(cmd, env, f) },
	}
	f.bind(cmd, "")
	bindBroker(cmd, &f.broker)
	cmd.Flags().StringVar(&f.secrets, "secrets", env.credentialsDir, "folder `DIR` of the files that the profile's links name: certificates, keys, passwords")
	return cmd
}

func bindBroker(cmd *cobra.Command, broker *[]string) {
	cmd.Flags().StringSliceVar(broker, "broker", nil, "`HOST:PORT` of the box's broker (default: on this machine, the profile's port)")
}

// boxBroker is where the box's broker is: as given, or where the profile has
// it listen.
func boxBroker(given []string, profile *site.Profile) []string {
	if len(given) > 0 {
		return given
	}
	return []string{profile.Broker.Address()}
}

func runReplicator(cmd *cobra.Command, env environment, f replicatorFlags) error {
	trustPublicAuthorities()
	debug.SetMemoryLimit(memoryGoal)
	profile, err := f.profile()
	if err != nil {
		return err
	}
	log, reg := env.logger("replicator"), newRegistry()
	r, err := replicator.New(replicator.Config{
		Links:      profile.Links,
		Site:       profile.Site,
		Source:     boxBroker(f.broker, profile),
		Secrets:    f.secrets,
		Registerer: reg,
		Log:        log,
	})
	if err != nil {
		return err
	}
	return runService(cmd.Context(), "replicator", r, options{
		env: env, log: log, registry: reg,
		status: env.statusSocket("replicator", f.runDir),
	})
}
