package clients;

import static clients.Env.check;
import static clients.Env.equal;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.apache.kafka.common.utils.Exit;

/**
 * The tools that come with Apache Kafka, as their scripts call them but in
 * this process: each takes a second, and a Java machine of its own two more.
 */
final class ToolRun {
    /** A tool's main method. */
    interface Tool {
        void main(String[] args) throws Exception;
    }

    /** What a tool that has ended leaves: its exit status and all that it printed. */
    record Ran(int status, String text) {
        /** Fails unless the tool succeeded and printed all of this. */
        Ran says(String... parts) {
            equal(status, 0, "exit status; it printed:\n" + text);
            return prints(parts);
        }

        Ran prints(String... parts) {
            for (String part : parts) {
                check(text.contains(part), "no %s in what it printed:\n%s", part, text);
            }
            return this;
        }

        /** The first group of the first match. */
        String find(String pattern) {
            Matcher m = Pattern.compile(pattern).matcher(text);
            check(m.find(), "nothing like %s in what it printed:\n%s", pattern, text);
            return m.group(1);
        }
    }

    private static final class Ended extends Error {
    }

    static Ran run(Tool tool, String... args) throws Exception {
        return run("", tool, args);
    }

    /** Runs a tool with this on its standard input. */
    static Ran run(String input, Tool tool, String... args) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        InputStream in = System.in;
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        PrintStream to = new PrintStream(text, true, StandardCharsets.UTF_8);
        int[] first = {-1}; // some tools catch what ends them, and end once more
        Exit.Procedure ends = (status, message) -> {
            first[0] = first[0] < 0 ? status : first[0];
            throw new Ended();
        };
        Exit.setExitProcedure(ends);
        Exit.setHaltProcedure(ends);
        List<Runnable> atExit = new ArrayList<>();
        Exit.setShutdownHookAdder((name, hook) -> atExit.add(hook));
        System.setOut(to);
        System.setErr(to);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        try {
            try {
                tool.main(args);
            } catch (Ended e) {
                // as it should
            }
            atExit.forEach(Runnable::run);
        } finally {
            System.setOut(out);
            System.setErr(err);
            System.setIn(in);
        }
        return new Ran(Math.max(first[0], 0), text.toString(StandardCharsets.UTF_8));
    }

    /** Runs a tool that takes the broker's address by --bootstrap-server. */
    static Ran tool(Env env, Tool tool, String... args) throws Exception {
        List<String> all = new ArrayList<>(List.of(args));
        all.addAll(0, List.of("--bootstrap-server", env.bootstrap));
        return run(tool, all.toArray(String[]::new));
    }

    /** A file of this text, which the process's end removes. */
    static String file(String text) throws Exception {
        Path p = Files.createTempFile("tool", ".txt");
        p.toFile().deleteOnExit();
        return Files.writeString(p, text).toString();
    }
}
