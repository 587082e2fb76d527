package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "wayside",
		Short: "Build, boot and inspect images of Kafka boxes for the edge",
		Long: `wayside turns a board and a site profile into a signed disk image that boots
straight into a Kafka-compatible broker, a replicator and device connectors.`,
		Example: `  wayside run                                  build an image and boot it in QEMU
  wayside build --board x86-64-uefi --site shop.yaml -o out/
  wayside inspect --verify out/wayside-x86-64-uefi-0.1.0-dev.img
  wayside site check shop.yaml`,
		Version:       fmt.Sprintf("%s (%s %s/%s)", defaultVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(usageError)
	root.AddCommand(
		newBuildCmd(), newRunCmd(), newFlashCmd(), newClaimCmd(), newInspectCmd(), newPublishCmd(), newKeysCmd(),
		newSiteCmd(), newLinkCmd(), newConnectCmd(), newLockCmd(), newHostCmd(), newBoxCmd(),
	)
	return root
}
