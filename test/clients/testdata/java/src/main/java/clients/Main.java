package clients;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Runs cases by name against one broker: Main BOOTSTRAP CASE... The test in
 * Go reads one line per event: "@begin NAME", then "@pass NAME" or, after a
 * stack trace, "@fail NAME"; "@kill" and "@restart" ask it to do that to the
 * broker, and wait for a line on standard input. --list prints the names.
 */
public final class Main {
    interface Case {
        void run(Env env) throws Exception;
    }

    static Map<String, Case> cases() {
        Map<String, Case> all = new LinkedHashMap<>();
        ProducerCases.add(all);
        TransactionCases.add(all);
        ConsumerCases.add(all);
        GroupCases.add(all);
        AdminCases.add(all);
        GroupAdminCases.add(all);
        ShareCases.add(all);
        StreamsCases.add(all);
        SecurityCases.add(all);
        ToolCases.add(all);
        ToolClientCases.add(all);
        return all;
    }

    public static void main(String[] args) throws Exception {
        Map<String, Case> all = cases();
        if (args[0].equals("--list")) {
            all.keySet().forEach(System.out::println);
            return;
        }
        for (String name : List.of(args).subList(1, args.length)) {
            System.out.println("@begin " + name);
            try (Env env = new Env(args[0], name)) {
                all.get(name).run(env);
                System.out.println("@pass " + name);
            } catch (Throwable e) {
                e.printStackTrace(System.out);
                System.out.println("@fail " + name);
            }
        }
        System.exit(0); // whatever threads a failed case has left behind
    }
}
