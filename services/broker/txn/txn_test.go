package txn_test

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// scripts are what clients do and what they are told. Producer ids count from
// 0; "0/1" is producer id 0 in epoch 1. A transaction may take a minute.
var scripts = map[string]string{
	"a transaction before KIP-890": `
		init x                     => 0/0
		state x                    => Empty 0/0 0
		write x 0/0 t0             => not added to the transaction
		add x 0/0 t0 t1            => ok
		add x 0/0 t1               => ok
		write x 0/0 t0 t1          => ok
		write x 0/0 t2             => not added to the transaction
		state x                    => Ongoing 0/0 2
		end x 0/0 commit           => 0/0
		state x                    => CompleteCommit 0/0 0
		markers t0                 => 0/0:commit
		markers t1                 => 0/0:commit
		end x 0/0 commit           => 0/0                  // asked again
		end x 0/0 abort            => INVALID_TXN_STATE
		write x 0/0 t0             => not added to the transaction
		add x 0/0 t0               => ok
		end x 0/0 abort            => 0/0
		end x 0/0 abort            => 0/0
		end x 0/0 commit           => INVALID_TXN_STATE
		markers t0                 => 0/0:commit 0/0:abort`,
	"a transaction since KIP-890": `
		init x                     => 0/0
		write2 x 0/0 t0            => ok
		write2 x 0/0 t0 t1         => ok
		state x                    => Ongoing 0/0 2
		end2 x 0/0 commit          => 0/1
		markers t0                 => 0/1:commit           // a late batch of epoch 0 is fenced
		write2 x 0/0 t0            => PRODUCER_FENCED
		end2 x 0/0 commit          => 0/1                  // asked again
		end2 x 0/0 abort           => INVALID_TXN_STATE
		end2 x 0/1 commit          => INVALID_TXN_STATE    // there is no other transaction yet
		write2 x 0/1 t0            => ok
		end2 x 0/0 commit          => PRODUCER_FENCED
		end2 x 0/1 abort           => 0/2
		end2 x 0/1 abort           => 0/2
		end2 x 0/1 commit          => INVALID_TXN_STATE`,
	"abort of a transaction of which nothing reached the broker": `
		init x                     => 0/0
		end x 0/0 abort            => INVALID_TXN_STATE
		end x 0/0 commit           => INVALID_TXN_STATE
		end2 x 0/0 commit          => INVALID_TXN_STATE
		end2 x 0/0 abort           => 0/1
		end2 x 0/1 abort           => 0/2
		write2 x 0/2 t0            => ok
		end2 x 0/2 commit          => 0/3
		end2 x 0/3 abort           => 0/4
		end2 x 0/3 abort           => 0/4
		state x                    => CompleteAbort 0/4 0`,
	"who is not who it says": `
		add x 0/0 t0               => INVALID_PRODUCER_ID_MAPPING
		end x 0/0 commit           => INVALID_PRODUCER_ID_MAPPING
		add x -1/-1 t0             => INVALID_PRODUCER_ID_MAPPING
		init x                     => 0/0
		init x                     => 0/1
		add x 0/0 t0               => PRODUCER_FENCED
		add x 1/1 t0               => INVALID_PRODUCER_ID_MAPPING
		add x 0/2 t0               => PRODUCER_FENCED
		group x 0/0 g              => PRODUCER_FENCED
		end2 x 0/0 commit          => PRODUCER_FENCED
		write2 x 0/0 t0            => PRODUCER_FENCED
		offset2 x 0/0 g t0 5       => PRODUCER_FENCED`,
	"a new producer ends the transaction of the one before": `
		init x                     => 0/0
		add x 0/0 t0               => ok
		init x                     => CONCURRENT_TRANSACTIONS
		init x                     => 0/2
		markers t0                 => 0/1:abort
		end x 0/0 commit           => PRODUCER_FENCED
		end2 x 0/0 commit          => PRODUCER_FENCED
		add x 0/2 t0               => ok`,
	"a producer goes on after an error (KIP-360)": `
		init x                     => 0/0
		init x 0/0                 => 0/1
		init x 0/0                 => 0/1                  // asked again
		init x 0/1                 => 0/2
		init x 0/0                 => PRODUCER_FENCED
		init x 7/0                 => PRODUCER_FENCED
		add x 0/2 t0               => ok
		init x 0/1                 => PRODUCER_FENCED      // must not abort what is open
		init x 0/2                 => CONCURRENT_TRANSACTIONS
		init x 0/2                 => 0/3
		markers t0                 => 0/3:abort
		init y 0/5                 => 1/0                  // an id that was forgotten`,
	"epochs are used up by InitProducerID": `
		init x                     => 0/0
		epoch x 32766              => ok
		init x 0/32766             => 1/0
		init x 0/32766             => 1/0                  // asked again
		add x 0/32766 t0           => INVALID_PRODUCER_ID_MAPPING
		epoch x 32766              => ok
		init x                     => 2/0
		init x 1/32766             => PRODUCER_FENCED`,
	"epochs are used up by EndTxn": `
		init x                     => 0/0
		epoch x 32766              => ok
		write2 x 0/32766 t0        => ok
		end2 x 0/32766 commit      => 1/0
		markers t0                 => 0/32767:commit
		end2 x 0/32766 commit      => 1/0                  // asked again
		end2 x 0/32766 abort       => INVALID_TXN_STATE
		write2 x 1/0 t0            => ok
		end2 x 0/32766 commit      => INVALID_PRODUCER_ID_MAPPING
		end2 x 1/0 abort           => 1/1`,
	"the last epoch is for fencing": `
		init x                     => 0/0
		epoch x 32766              => ok
		write2 x 0/32766 t0        => ok
		init x                     => CONCURRENT_TRANSACTIONS
		init x                     => 1/0
		markers t0                 => 0/32767:abort`,
	"a transaction that takes too long": `
		init x                     => 0/0
		pass 2m                    => ok
		add x 0/0 t0               => ok
		pass 59s                   => ok
		add x 0/0 t1               => ok
		state x                    => Ongoing 0/0 2
		pass 3s                    => ok
		state x                    => CompleteAbort 0/1 0
		markers t0                 => 0/1:abort
		add x 0/0 t0               => PRODUCER_FENCED
		end x 0/0 commit           => PRODUCER_FENCED
		end2 x 0/0 commit          => INVALID_TXN_STATE
		end2 x 0/0 abort           => 0/1
		init x                     => 0/2`,
	"the time of a transaction begins anew with the broker": `
		init x                     => 0/0
		add x 0/0 t0               => ok
		pass 50s                   => ok
		restart                    => ok
		pass 50s                   => ok
		state x                    => Ongoing 0/0 1
		pass 12s                   => ok
		state x                    => CompleteAbort 0/1 0`,
	"offsets": `
		init x                     => 0/0
		offset x 0/0 g t0 5        => not added to the transaction
		group x 0/0 g              => ok
		group x 0/0 g              => ok
		offset x 0/0 g t0 5        => ok
		offset x 0/0 h t0 5        => not added to the transaction
		committed g t0             => none true
		offset x 0/0 g t0 6        => ok
		end x 0/0 commit           => 0/0
		committed g t0             => 6 false
		group x 0/0 g              => ok
		offset x 0/0 g t0 9        => ok
		committed g t0             => 6 true
		end x 0/0 abort            => 0/0
		committed g t0             => 6 false
		offset2 x 0/0 g t0 7       => ok
		offset2 x 0/0 h t1 8       => ok
		restart                    => ok
		committed g t0             => 6 true
		end2 x 0/0 commit          => 0/1
		committed g t0             => 7 false
		committed h t1             => 8 false`,
	"a plain commit is newer than one that waits": `
		init x                     => 0/0
		offset2 x 0/0 g t0 7       => ok
		plain g t0 9               => ok
		committed g t0             => 9 false
		end2 x 0/0 commit          => 0/1
		committed g t0             => 9 false`,
	"two transactions wait for one offset": `
		init x                     => 0/0
		init y                     => 1/0
		offset2 x 0/0 g t0 7       => ok
		offset2 y 1/0 g t0 8       => ok
		end2 x 0/0 abort           => 0/1
		committed g t0             => none true
		end2 y 1/0 commit          => 1/1
		committed g t0             => 8 false`,
	"a full disk": `
		init x                     => 0/0
		add x 0/0 t0 t1            => ok
		group x 0/0 g              => ok
		offset x 0/0 g t0 5        => ok
		fail t1 full               => ok
		end x 0/0 commit           => 0/0                  // decided, and nobody waits for ever
		state x                    => PrepareCommit 0/0 2
		committed g t0             => none true
		end x 0/0 commit           => CONCURRENT_TRANSACTIONS
		end x 0/0 abort            => INVALID_TXN_STATE
		end x 0/9 commit           => PRODUCER_FENCED
		add x 0/0 t0               => CONCURRENT_TRANSACTIONS
		write x 0/0 t0             => CONCURRENT_TRANSACTIONS
		init x                     => CONCURRENT_TRANSACTIONS
		fail t1 never              => ok
		pass 1s                    => ok
		state x                    => CompleteCommit 0/0 0
		committed g t0             => 5 false
		markers t0                 => 0/0:commit
		markers t1                 => 0/0:commit
		end x 0/0 commit           => 0/0`,
	"a full disk through a restart": `
		init x                     => 0/0
		write2 x 0/0 t0 t1         => ok
		fail t1 full               => ok
		end2 x 0/0 commit          => 0/1
		restart                    => ok
		state x                    => PrepareCommit 0/1 2
		fail t1 never              => ok
		pass 1s                    => ok
		end2 x 0/0 commit          => 0/1
		markers t1                 => 0/1:commit`,
	"the next transaction while a full disk holds up the end": `
		init x                     => 0/0
		write2 x 0/0 t0            => ok
		fail t0 full               => ok
		end2 x 0/0 commit          => 0/1
		end2 x 0/1 abort           => CONCURRENT_TRANSACTIONS  // nothing was added to it
		end2 x 0/1 commit          => CONCURRENT_TRANSACTIONS
		end2 x 0/0 commit          => CONCURRENT_TRANSACTIONS
		end2 x 0/0 abort           => INVALID_TXN_STATE
		end2 x 0/2 abort           => PRODUCER_FENCED
		write2 x 0/1 t0            => CONCURRENT_TRANSACTIONS
		fail t0 never              => ok
		pass 1s                    => ok
		markers t0                 => 0/1:commit
		end2 x 0/1 abort           => 0/2
		state x                    => CompleteAbort 0/2 0`,
	"the next producer id while a full disk holds up the end": `
		init x                     => 0/0
		epoch x 32766              => ok
		write2 x 0/32766 t0        => ok
		fail t0 full               => ok
		end2 x 0/32766 commit      => 1/0
		end2 x 1/0 abort           => CONCURRENT_TRANSACTIONS
		write2 x 1/0 t0            => CONCURRENT_TRANSACTIONS
		init x 1/0                 => CONCURRENT_TRANSACTIONS
		add x 1/1 t0               => INVALID_PRODUCER_ID_MAPPING
		fail t0 never              => ok
		pass 1s                    => ok
		end2 x 1/0 abort           => 1/1
		init x 1/1                 => 1/2`,
	"a partition that is read-only gets its marker at the next start": `
		init x                     => 0/0
		add x 0/0 t0 t1            => ok
		fail t1 readonly           => ok
		end x 0/0 commit           => 0/0
		state x                    => CompleteCommit 0/0 0
		owed                       => 1
		restart                    => ok
		owed                       => 1
		fail t1 never              => ok
		cut                        => ok
		owed                       => 0
		markers t0                 => 0/0:commit
		markers t1                 => 0/0:commit`,
	"a topic that was deleted, a partition that knows better": `
		init x                     => 0/0
		add x 0/0 t0 t1 t2         => ok
		fail t0 gone               => ok
		fail t1 epoch              => ok
		end x 0/0 commit           => 0/0
		owed                       => 0
		markers t2                 => 0/0:commit`,
	"transactions that hang": `
		init x                     => 0/0
		write2 x 0/0 t0            => ok
		end2 x 0/0 commit          => 0/1
		open t0 0/1                => ok                   // the marker was lost
		open t1 9/4                => ok                   // nobody knows of this one
		restart                    => ok
		markers t0                 => 0/1:commit 0/1:commit
		markers t1                 => 9/4:abort
		write2 x 0/1 t0            => ok
		open t0 0/1                => ok
		restart                    => ok
		markers t0                 => 0/1:commit 0/1:commit  // it does not hang
		end2 x 0/1 abort           => 0/2
		markers t0                 => 0/1:commit 0/1:commit 0/2:abort`,
	"transactions that hang in logs that are not recovered yet": `
		init x                     => 0/0
		write2 x 0/0 t0 t1 t2      => ok
		end2 x 0/0 commit          => 0/1
		open t0 0/1                => ok
		open t1 0/1                => ok
		slow                       => ok
		restart                    => ok
		write2 x 0/1 t0            => ok                   // not before the one before is over
		markers t0                 => 0/1:commit 0/1:commit
		end2 x 0/1 abort           => 0/2
		markers t0                 => 0/1:commit 0/1:commit 0/2:abort
		fail t1 full               => ok
		write2 x 0/2 t1            => COORDINATOR_NOT_AVAILABLE
		fail t1 never              => ok
		write2 x 0/2 t0            => ok
		open t0 0/2                => ok                   // by what was written
		init y                     => 1000/0
		write2 y 1000/0 t2         => ok
		open t2 1000/0             => ok
		recover                    => ok
		markers t0                 => 0/1:commit 0/1:commit 0/2:abort
		markers t1                 => 0/1:commit 0/1:commit
		markers t2                 => 0/1:commit
		end2 x 0/2 commit          => 0/3
		markers t0                 => 0/1:commit 0/1:commit 0/2:abort 0/3:commit`,
	"an id that is not used is forgotten": `
		init x                     => 0/0
		init y                     => 1/0
		add y 1/0 t0               => ok
		end y 1/0 commit           => 1/0
		pass 55m                   => ok
		add y 1/0 t0               => ok
		end y 1/0 commit           => 1/0
		pass 6m                    => ok
		state x                    => none
		state y                    => CompleteCommit 1/0 0
		add x 0/0 t0               => INVALID_PRODUCER_ID_MAPPING
		init x                     => 2/0
		restart                    => ok
		state x                    => Empty 2/0 0`,
	"bounds": `
		init ` + fmt.Sprintf("%01025d", 0) + ` => INVALID_REQUEST`,
}

func TestScripts(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				defer s.stop()
				s.run(script)
			})
		})
	}
}
